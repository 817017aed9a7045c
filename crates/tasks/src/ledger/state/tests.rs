use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn stats() -> LocalModelStats {
    LocalModelStats {
        total_attempts: 5,
        success_count: 4,
        escalated_to_cloud: 1,
        failures_by_type: BTreeMap::from([("lint".to_owned(), 1)]),
        avg_quality_score: 0.7,
    }
}

fn file(text: Option<&str>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(STATE_FILE);
    if let Some(text) = text {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    (folder, path)
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Covers S2-27, S2-28, S2-43: the migration in an empty folder.
#[test]
fn an_empty_folder_gets_a_state_with_every_field() {
    let (_folder, path) = file(None);
    assert_eq!(LocalModelStats::default().export(&path, false).unwrap(), Exported::Migrated);
    let text = fs::read_to_string(&path).unwrap();
    let state = read(&path);
    assert_eq!(state["version"], "6.1");
    let expected =
        r#"{"totalAttempts":0,"successCount":0,"escalatedToCloud":0,"failuresByType":{},"avgQualityScore":0"#;
    // The seed's file has `0`, ours `0.0`: equal as numbers.
    assert!(state["stats"]["localModelStats"].to_string().starts_with(expected), "{state}");
    assert_eq!(state["stats"]["localModelStats"].as_object().unwrap().len(), 5);
    LocalModelStats::default().export(&path, false).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

/// Covers S2-27, S2-28: keys, their order and their text stay; the figures come after `reviewStats`.
#[test]
fn an_existing_file_keeps_everything_else() {
    let old = "{\n  \"version\": \"6.0\",\n  \"big\": 123456789012345678901234567890.10,\n  \"stats\": {\n    \
               \"z\": [1,\n      2],\n    \"reviewStats\": {\"avgFindings\": 1.50},\n    \"a\": null\n  },\n  \
               \"waves\": {\"b\": 1, \"a\": 2}\n}\n";
    let (_folder, path) = file(Some(old));
    assert_eq!(stats().export(&path, false).unwrap(), Exported::Written);
    let new = fs::read_to_string(&path).unwrap();
    let expected = "{\n  \"version\": \"6.1\",\n  \"big\": 123456789012345678901234567890.10,\n  \"stats\": {\n    \
                    \"z\": [1,\n      2],\n    \"reviewStats\": {\"avgFindings\": 1.50},\n    \"localModelStats\": {\n      \
                    \"totalAttempts\": 5,\n      \"successCount\": 4,\n      \"escalatedToCloud\": 1,\n      \
                    \"failuresByType\": {\"lint\":1},\n      \"avgQualityScore\": 0.7\n    },\n    \"a\": null\n  },\n  \
                    \"waves\": {\"b\": 1, \"a\": 2}\n}\n";
    assert_eq!(new, expected);
    stats().export(&path, false).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}

/// Covers S2-28: defaults are set without losing values.
#[test]
fn migration_keeps_values_and_fills_in_the_rest() {
    let (_folder, path) =
        file(Some(r#"{"version":"6.0","stats":{"localModelStats":{"totalAttempts":7,"mine":"x"}}}"#));
    assert_eq!(LocalModelStats::default().export(&path, false).unwrap(), Exported::Migrated);
    let ours = &read(&path)["stats"]["localModelStats"];
    assert_eq!((&ours["totalAttempts"], &ours["mine"]), (&json!(7), &json!("x")));
    assert_eq!((&ours["successCount"], &ours["failuresByType"]), (&json!(0), &json!({})));
}

#[test]
fn a_file_that_counts_more_keeps_its_figures() {
    let old = r#"{"version":"6.1","stats":{"localModelStats":{"totalAttempts":70,"successCount":60}}}"#;
    let (_folder, path) = file(Some(old));
    assert_eq!(stats().export(&path, false).unwrap(), Exported::Kept { file: 70, ledger: 5 });
    assert_eq!(read(&path)["stats"]["localModelStats"]["successCount"], 60);
    assert_eq!(stats().export(&path, true).unwrap(), Exported::Written);
    assert_eq!(read(&path)["stats"]["localModelStats"]["successCount"], 4);
}

#[test]
fn what_is_no_state_is_not_touched() {
    for text in ["[1]", "{\"stats\": 3}", "{\"stats\": {\"localModelStats\": []}}", "{\"a\": 1", "\u{feff}{}"]
    {
        let (_folder, path) = file(Some(text));
        let error = stats().export(&path, false).unwrap_err();
        assert!(matches!(error, Error::State { .. }), "{text}: {error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn versions_only_rise() {
    for (before, after) in
        [("\"6.0\"", "6.1"), ("\"6.10\"", "6.10"), ("\"6.2.1\"", "6.2.1"), ("\"7\"", "7"), ("1", "6.1")]
    {
        let (_folder, path) = file(Some(&format!("{{\"version\": {before}}}")));
        stats().export(&path, false).unwrap();
        assert_eq!(read(&path)["version"], after);
    }
}

#[test]
fn mode_link_and_line_ends_stay() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = file(Some("{\r\n\t\"version\": \"6.0\"\r\n}\r\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let link = folder.path().join("link.json");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    stats().export(&link, false).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    assert!(
        text.contains("\r\n\t\"stats\": {\r\n\t\t\"localModelStats\": {\r\n\t\t\t\"totalAttempts\": 5,"),
        "{text}"
    );
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|entries| entries.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    /// Covers S2-28: whatever else is in the file stays, and doing it twice is doing it once.
    #[test]
    fn nothing_else_changes(
        before in proptest::collection::vec(("[a-z]{1,6}", any_json()), 0..6),
        inner in proptest::collection::vec(("[a-z]{1,6}", any_json()), 0..6),
        pretty in any::<bool>(),
    ) {
        let collect = |entries: Vec<(String, Value)>| entries.into_iter().collect::<serde_json::Map<_, _>>();
        let mut state = collect(before);
        state.remove("version");
        state.insert("stats".to_owned(), collect(inner).into());
        let text = if pretty { serde_json::to_string_pretty(&state) } else { serde_json::to_string(&state) }.unwrap();
        let (merged, _) = stats().merged(&text, false).unwrap();
        prop_assert_eq!(&stats().merged(&merged, false).unwrap().0, &merged);
        let mut after: serde_json::Map<String, Value> = serde_json::from_str(&merged).unwrap();
        prop_assert_eq!(after.remove("version"), Some(json!("6.1")));
        prop_assert!(after["stats"].as_object_mut().unwrap().remove("localModelStats").is_some());
        prop_assert_eq!(after, state);
    }
}
