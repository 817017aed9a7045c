use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

/// Text drawn by chance from these signs, always the same for a seed. No secret stands in this file.
pub(crate) fn drawn(signs: &str, length: usize, seed: u64) -> String {
    let signs: Vec<char> = signs.chars().collect();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        signs[(state >> 33) as usize % signs.len()]
    };
    (0..length).map(|_| next()).collect()
}

const ALL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const CAPITALS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const HEX: &str = "0123456789abcdef";
const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Lines with a secret, and the secret in it.
pub(crate) fn planted() -> Vec<(String, String)> {
    let all = |length, seed| drawn(ALL, length, seed);
    let hex = |length, seed| drawn(HEX, length, seed);
    let bare = |secret: String| (secret.clone(), secret);
    let put = |before: &str, secret: String, after: &str| (format!("{before}{secret}{after}"), secret);
    let pem = STANDARD.encode(drawn(ALL, 96, 40));
    let (one, two) = pem.split_at(64);
    let jwt = format!(
        "{}.{}.{}",
        STANDARD.encode(r#"{"alg":"HS256","typ":"JWT"}"#).trim_end_matches('='),
        STANDARD.encode(r#"{"sub":"7419","iat":1516239022}"#).trim_end_matches('='),
        all(43, 41)
    );
    vec![
        bare(format!("AKIA{}", drawn(CAPITALS, 16, 1))),
        put("aws_secret_access_key = ", drawn(BASE64, 40, 2), ""),
        bare(format!("ghp_{}", all(36, 3))),
        bare(format!("github_pat_{}_{}", all(22, 4), all(59, 5))),
        bare(format!("glpat-{}", all(20, 6))),
        bare(format!("xoxb-{}-{}", drawn("0123456789", 12, 7), all(24, 8))),
        bare(format!("hooks.slack.com/services/T{}/B{}/{}", all(8, 9), all(8, 10), all(24, 11))),
        bare(format!("sk_live_{}", all(24, 12))),
        bare(format!("AIza{}", all(35, 13))),
        bare(format!("sk-ant-api03-{}", all(90, 14))),
        bare(format!("sk-proj-{}", all(48, 15))),
        bare(format!("sk-{}T3BlbkFJ{}", all(20, 16), all(20, 17))),
        bare(format!("npm_{}", all(36, 18))),
        bare(format!("pypi-{}", all(120, 19))),
        bare(format!("hf_{}", all(34, 20))),
        bare(format!("SG.{}.{}", all(22, 21), all(43, 22))),
        bare(jwt),
        put("postgres://app:", "river-otter".into(), "@db.internal:5432/app"),
        put("https://deploy:", format!("{}-x", all(14, 23)), "@git.internal/app.git"),
        put("Authorization: Bearer ", all(40, 24), ""),
        put("//registry.internal/:_authToken=", hex(36, 25), ""),
        put("DB_PASSWORD=", "Tr0mbone!".into(), ""),
        put("export API_KEY=", hex(32, 26), ""),
        put("    \"clientSecret\": \"", all(32, 27), "\","),
        put("const TOKEN: &str = \"", all(32, 28), "\";"),
        put("password: '", "c0rrect-Horse".into(), "'"),
        put("  password = \"", "S3same,open".into(), "\""),
        put("<password>", "S3same,open7".into(), "</password>"),
        put("machine git.internal login me password ", "seasame9".into(), ""),
        put("client.api_key = os.environ.get('K', '", all(32, 29), "')"),
        put("signing_key: ", drawn(BASE64, 43, 30) + "=", ""),
        put("AccountKey=", drawn(BASE64, 86, 31) + "==", ""),
        (format!("-----BEGIN PRIVATE KEY-----\n{one}\n{two}\n-----END PRIVATE KEY-----"), pem.clone()),
    ]
}

/// The ways in which a text may stand in a request.
pub(crate) fn encodings(text: &str) -> Vec<(&'static str, String)> {
    let json = |text: &str| serde_json::to_string(text).unwrap();
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let padded = format!("# settings of the service, as it runs\n{text}\n");
    let base64 = STANDARD.encode(&padded);
    let wrapped: Vec<&str> =
        base64.as_bytes().chunks(60).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let percent: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    let entities =
        text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('=', "&#61;");
    let diff: String = text.lines().map(|line| format!("+{line}\n")).collect();
    vec![
        ("as it is", text.to_owned()),
        ("in a diff", format!("@@ -0,0 +1 @@\n{diff}")),
        ("in output", format!("running 1 test\nthread 'main' panicked:\n{text}\nstack backtrace:")),
        ("in JSON", json(text)),
        ("in JSON in JSON", json(&json(text))),
        ("in JSON in JSON in JSON", json(&json(&json(text)))),
        ("in base64", base64.clone()),
        ("in wrapped base64", wrapped.join("\n")),
        ("in wrapped base64 in JSON", json(&wrapped.join("\n"))),
        ("in base64 in base64", STANDARD.encode(&base64)),
        ("as hexadecimal digits", padded.bytes().map(|byte| format!("{byte:02x}")).collect()),
        ("as UTF-16 in base64", STANDARD.encode(utf16)),
        ("percent", percent),
        ("escapes", escaped),
        ("entities", entities),
    ]
}

#[test]
fn secrets_are_found_in_every_coding() {
    let scanner = Scanner::new();
    let mut missed = Vec::new();
    for (line, secret) in planted() {
        let wanted = fingerprint(secret.as_bytes());
        for (coding, text) in encodings(&line) {
            let text = format!("let first = 1;\n{text}\n");
            let found = scanner.text("x", text.as_bytes());
            if found.is_empty() {
                missed.push(format!("{coding}: {line}: {text}"));
            } else if coding == "as it is" {
                assert!(found.iter().any(|finding| finding.fingerprint == wanted), "{line}: {found:?}");
                assert_eq!(found[0].line, 2, "{line}");
            }
        }
    }
    assert!(missed.is_empty(), "{} missed:\n{}", missed.len(), missed.join("\n"));
}

#[test]
fn what_is_no_secret_is_not_found() {
    let scanner = Scanner::new();
    let hex = |length, seed| drawn(HEX, length, seed);
    for text in [
        format!("checksum = \"{}\"", hex(64, 1)),
        format!("\"integrity\": \"sha512-{}==\"", drawn(BASE64, 86, 2)),
        format!("commit {}\nindex {}..{} 100644", hex(40, 3), hex(7, 4), hex(7, 5)),
        format!("rev = \"{}\"\nkey = \"{}\"", hex(40, 6), hex(40, 7)),
        "id = \"550e8400-e29b-41d4-a716-446655440000\"".to_owned(),
        "cache_key = \"550e8400-e29b-41d4-a716-446655440000\"".to_owned(),
        "AKIAIOSFODNN7EXAMPLE".to_owned(),
        "password = \"changeme\"\npassword: \"<your password>\"\nPASSWORD=${DB_PASSWORD}".to_owned(),
        "let token = lexer.next_token();\nlet token: Token = parse2(input)?;\nif token == Token::Ident2 {}".to_owned(),
        "fn check(password: &str, secret: [u8; 32]) -> bool { password == stored_password2 }".to_owned(),
        "api_key = os.environ[\"OPENAI_API_KEY_2\"]\ntoken = \"access_token_v2\"".to_owned(),
        "postgres://user:password@localhost/db postgres://postgres:postgres@localhost".to_owned(),
        "https://user:pass@example.com/ http://{user}:{password}@{host}/".to_owned(),
        "const HEADER: &str = \"-----BEGIN PRIVATE KEY-----\";\nconst FOOTER: &str = \"-----END PRIVATE KEY-----\";".to_owned(),
        "\"tokenizer\": \"qwen2.5-coder-tokenizer-v1.json\", \"max_tokens\": \"4096000\"".to_owned(),
        "Authorization: Bearer <token>\nAuthorization: Bearer $TOKEN_FROM_ENVIRONMENT".to_owned(),
        "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx ghp_000000000000000000000000000000000000".to_owned(),
        "primary_key: user_id2, sort_key = \"created_at_2024\", public_key = \"x\"".to_owned(),
        "r\"\\d+\\.\\w{2}\" 100% of &mut x".to_owned(),
    ] {
        let found = scanner.text("x", text.as_bytes());
        assert!(found.is_empty(), "{text}\n{found:?}");
    }
}

#[test]
fn one_secret_hides_no_other() {
    let scanner = Scanner::new();
    let text = "test_password = \"Zk9!xq3\"\nprod_password = \"RealProdZk9!xq3#77\"\n";
    for text in [text.to_owned(), text.lines().rev().collect::<Vec<_>>().join("\n")] {
        let found = scanner.text("x", text.as_bytes());
        for secret in ["Zk9!xq3", "RealProdZk9!xq3#77"] {
            let wanted = fingerprint(secret.as_bytes());
            assert!(found.iter().any(|finding| finding.fingerprint == wanted), "{text}: {found:?}");
        }
    }
    // A token that stands alone and in a longer value is a part of two secrets.
    let token = format!("ghp_{}", drawn(ALL, 36, 3));
    let text = format!("{token}\npassword = \"My0wn-{token}\"\nclient_secret = \"{token}\"\n");
    let found = scanner.text("x", text.as_bytes());
    assert!(found.iter().any(|finding| finding.fingerprint == fingerprint(token.as_bytes())), "{found:?}");
}

/// Secrets of many lines are found in time that grows with their number.
#[test]
fn many_secrets_are_found_in_one_pass() {
    let lines = (0..12_000).map(|n| format!("password_{n} = \"{}\"\n", drawn(ALL, 12, n)));
    let text = lines.collect::<String>();
    let found = Scanner::new().text("x", text.as_bytes());
    assert!(found.len() > 10_000, "{}", found.len());
}

#[test]
fn names_that_begin_with_common_words_name_secrets() {
    let scanner = Scanner::new();
    let (all, base64) = (drawn(ALL, 40, 50), drawn(BASE64, 37, 51));
    for text in [
        format!("MINIO_SECRET_KEY={all}"),
        "CACHE_PASSWORD=T7!kd93mQz".to_owned(),
        format!("PUBNUB_SECRET_KEY={all}"),
        "PRIMARY_DB_PASSWORD=T7!kd93mQz".to_owned(),
        format!("INDEXER_API_TOKEN={all}"),
        format!("MAXIO_API_TOKEN={all}"),
        format!("SHORTCUT_API_TOKEN={all}"),
        format!("HOTJAR_KEY={all}"),
        format!("primary_access_key = \"{all}\""),
        format!("minio_secret_key: \"{all}\""),
        "cachePassword = \"T7!kd93mQz\"".to_owned(),
        format!("API_KEYS={all}"),
        format!("access_keys = \"{all}\""),
        format!("AWS_SECRET_ACCESS_KEY=/{base64}x9"),
        format!("aws_secret_access_key = /{base64}x9"),
        format!("AWS_SECRET_ACCESS_KEY={base64}//9"),
        format!("AccountKey={base64}//9{base64}=="),
    ] {
        assert!(!scanner.text("x", text.as_bytes()).is_empty(), "{text}");
    }
    for text in [
        format!("pub_key = \"{all}\"\npubkey = \"{all}\"\ncacheKey = \"{all}\"\nSORT_KEY={all}"),
        "<assemblyIdentity name=\"a\" publicKeyToken=\"b77a5c561934e089\" />".to_owned(),
        "max_tokens = 4096000\nnum_keys = 12000000000\nidempotency_keys = \"a\"".to_owned(),
        "SECRET_FILE=/run/secrets/database2\ntoken_dir = /var/lib/tokens2/current".to_owned(),
        "secret_key = /etc/service2/keys/production".to_owned(),
        "api_token = value // the 2nd argument of Service".to_owned(),
    ] {
        let found = scanner.text("x", text.as_bytes());
        assert!(found.is_empty(), "{text}\n{found:?}");
    }
}

#[test]
fn a_finding_names_the_place_and_not_the_secret() {
    let secret = format!("ghp_{}", drawn(ALL, 36, 3));
    let text = format!("one\ntwo {secret}\n");
    let body =
        serde_json::json!({"model": "m", "messages": [{"role": "user", "content": "x"}, {"content": text}]});
    let found = Scanner::new().body(body.to_string().as_bytes());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].place.as_str(), found[0].line), ("messages[1].content", 2));
    assert_eq!(found[0].fingerprint, fingerprint(secret.as_bytes()));
    assert!(!format!("{found:?}").contains(&secret[4..]));
    // Cut off, so no JSON any more; and between strings.
    let cut = &body.to_string()[..body.to_string().len() - 5];
    assert_eq!(Scanner::new().body(cut.as_bytes()).len(), 1);
    assert_eq!(Scanner::new().body(format!("{{\"a\": {secret}}}").as_bytes()).len(), 1);
    // A key that stands twice hides nothing.
    assert_eq!(Scanner::new().body(format!("{{\"a\": \"{secret}\", \"a\": \"b\"}}").as_bytes()).len(), 1);
}

#[test]
fn names_of_objects_name_secrets_too() {
    let scanner = Scanner::new();
    let body = |input: serde_json::Value| {
        let call = serde_json::json!({"type": "tool_use", "id": "t", "name": "login", "input": input});
        let said = serde_json::json!({"model": "m", "messages": [{"role": "assistant", "content": [call]}]});
        scanner.body(said.to_string().as_bytes())
    };
    for secret in ["kD93jf!x0sL2q", "k\"D9'3j`f!x0", "kD93jf!x0sL2q\n"] {
        let found = body(serde_json::json!({"user": "a", "db": {"password": secret}}));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].kind, found[0].line), ("password", 1));
        assert_eq!(found[0].place, "messages[0].content[0].input.db.password");
        assert_eq!(found[0].fingerprint, fingerprint(secret.trim().as_bytes()));
    }
    let found = body(serde_json::json!({"passwords": ["kD93jf!x0sL2q", "changeme"]}));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].place, "messages[0].content[0].input.passwords[0]");
    let token = drawn(ALL, 40, 50);
    assert_eq!(body(serde_json::json!({"api_token": token})).len(), 1);
    // A token of a known form is found once.
    assert_eq!(body(serde_json::json!({"token": format!("ghp_{}", drawn(ALL, 36, 3))})).len(), 1);
    for harmless in [
        serde_json::json!({"password": "changeme", "token": "string", "secret": "", "key": "user_id2"}),
        serde_json::json!({"password_file": "/run/secrets/database2", "path": token, "max_tokens": "4096000"}),
        serde_json::json!({"password": {"type": "string", "description": "9 signs, one of them of !?+"}}),
        serde_json::json!({"passwords": 12345678, "prompt_cache_key": "550e8400-e29b-41d4-a716-446655440000"}),
    ] {
        let found = body(harmless.clone());
        assert!(found.is_empty(), "{harmless}: {found:?}");
    }
}

#[test]
fn what_is_encoded_too_often_is_a_finding() {
    let mut text = "a quite harmless text that is not short".to_owned();
    for _ in 0..DEPTH + 2 {
        text = STANDARD.encode(text);
    }
    let found = Scanner::new().text("x", text.as_bytes());
    assert!(found.iter().any(|finding| finding.kind.contains("too often")), "{found:?}");
    let found = Scanner::new().text("x", "\\".repeat(1 << 12).as_bytes());
    assert!(found.iter().any(|finding| finding.kind.contains("too often")), "{found:?}");
}

proptest! {
    #[test]
    fn nothing_panics(text in prop::collection::vec(any::<u8>(), 0..500)) {
        let scanner = Scanner::new();
        scanner.text("x", &text);
        scanner.body(&text);
    }

    #[test]
    fn no_assignment_panics(text in r#"(password|token|key|secret|[="':( <>\n&a-z0-9]){0,80}"#) {
        Scanner::new().text("x", text.as_bytes());
    }
}
