use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::alphabet::Alphabet;
use super::*;

/// The test data that lies beside the checkout, where it does.
pub(crate) fn shared() -> Option<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().map(|folder| folder.join("shared")).find(|folder| folder.join("data").is_dir())
}

/// A small byte-level vocabulary: all bytes, pairs of common letters, and four special tokens.
pub(crate) fn toy() -> Tokenizer {
    Tokenizer::from_vocab(toy_parts()).unwrap()
}

/// The same with one more special token, the last.
pub(crate) fn toy_with(special: &str) -> Tokenizer {
    let mut parts = toy_parts();
    parts.tokens.push(special.to_owned());
    parts.token_types.push(3);
    Tokenizer::from_vocab(parts).unwrap()
}

fn toy_parts() -> VocabParts {
    let mut characters: Vec<(u8, char)> = Alphabet::new().characters().collect();
    characters.sort_unstable();
    let mut tokens: Vec<String> = characters.iter().map(|(_, c)| c.to_string()).collect();
    let mut merges = Vec::new();
    for (a, b) in [("a", "b"), ("t", "r"), ("u", "e"), ("tr", "ue"), ("Ġ", "Ġ"), (":", "Ġ"), ("\"", ":")] {
        tokens.push(format!("{a}{b}"));
        merges.push(format!("{a} {b}"));
    }
    let mut token_types = vec![1; tokens.len()];
    for (name, kind) in [("<|endoftext|>", 3), ("<|im_start|>", 3), ("<|im_end|>", 3), ("<tool_call>", 4)] {
        tokens.push(name.to_owned());
        token_types.push(kind);
    }
    VocabParts {
        path: PathBuf::from("toy.gguf"),
        model: "gpt2".to_owned(),
        pre: "qwen2".to_owned(),
        ends: vec![tokens.len() as u32 - 4; 2],
        tokens,
        token_types,
        merges,
        ..VocabParts::default()
    }
}

/// The same vocabulary as the contents of a `tokenizer.json`.
fn toy_json() -> Value {
    let parts = toy_parts();
    let tokens = || (0u32..).zip(&parts.tokens).zip(&parts.token_types);
    let vocab: serde_json::Map<String, Value> =
        tokens().filter(|(_, kind)| **kind == 1).map(|((id, token), _)| (token.clone(), json!(id))).collect();
    let added: Vec<Value> = tokens()
        .filter(|(_, kind)| **kind != 1)
        .map(|((id, token), kind)| {
            json!({
                "id": id, "content": token, "special": *kind == 3,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            })
        })
        .collect();
    json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": { "type": "NFC" },
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true },
        "model": { "type": "BPE", "vocab": vocab, "merges": parts.merges },
    })
}

fn folder(files: &[(&str, &Value)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        std::fs::write(folder.path().join(name), contents.to_string()).unwrap();
    }
    folder
}

fn vectors(name: &str) -> Vec<Value> {
    let Some(shared) = shared() else { return Vec::new() };
    let text = std::fs::read_to_string(shared.join("data/vectors").join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn published(model: &str) -> Option<Tokenizer> {
    Some(Tokenizer::from_dir(shared()?.join("data").join(model)).unwrap())
}

fn check_vectors(tokenizer: &Tokenizer, model: &str) {
    let lines = vectors("tokenizer.jsonl");
    assert!(!lines.is_empty());
    for line in lines {
        let text = line["text"].as_str().unwrap();
        let expected: Vec<u32> = serde_json::from_value(line[model].clone()).unwrap();
        let tokens = tokenizer.encode(text, SpecialTokens::Parse).unwrap();
        assert_eq!(tokens, expected, "{model}: {text:?}");
    }
}

#[test]
fn published_vectors() {
    for model in ["qwen2.5", "qwen3"] {
        if let Some(tokenizer) = published(model) {
            check_vectors(&tokenizer, model);
        }
    }
}

#[test]
fn published_vectors_from_gguf() {
    let Some(shared) = shared() else { return };
    let gguf = crate::Gguf::open(&shared.join("data/qwen2.5/vocab.gguf")).unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    check_vectors(&tokenizer, "qwen2.5");
    let Some(json) = published("qwen2.5") else { return };
    for id in 0..json.vocab_size() as u32 {
        assert_eq!(tokenizer.token_bytes(id), json.token_bytes(id), "token {id}");
        assert_eq!(tokenizer.is_special(id), json.is_special(id), "token {id}");
    }
    let ends = [151_643, 151_645, 151_662, 151_663, 151_664];
    assert_eq!((tokenizer.fim(), tokenizer.end_ids()), (json.fim(), &ends[..]));
}

#[test]
fn published_special_tokens() {
    let Some(tokenizer) = published("qwen2.5") else { return };
    assert_eq!(tokenizer.vocab_size(), 151_665);
    assert_eq!(tokenizer.end_ids(), [151_645, 151_643, 151_662, 151_663, 151_664]);
    assert_eq!(tokenizer.fim(), Some(FimTokens { prefix: 151_659, suffix: 151_661, middle: 151_660 }));
    assert_eq!((tokenizer.bos(), tokenizer.pad(), tokenizer.add_bos()), (None, Some(151_643), false));
    assert_eq!(tokenizer.token_bytes(151_657), b"<tool_call>");
    assert!(tokenizer.is_special(151_644) && tokenizer.is_special(151_659) && !tokenizer.is_special(151_657));
    assert!(tokenizer.chat_template("default").unwrap().contains("You are Qwen"));
    let eos = ("eos_token".to_owned(), "<|im_end|>".to_owned());
    assert!(tokenizer.template_variables().contains(&eos));
}

#[test]
fn plain_text_cannot_contain_special_tokens() {
    let text = "a<|im_start|>b<tool_call>\n<|fim_prefix|><|endoftext|>";
    for tokenizer in [Some(toy()), published("qwen2.5"), published("qwen3")].into_iter().flatten() {
        let tokens = tokenizer.encode(text, SpecialTokens::Plain).unwrap();
        assert_eq!(tokenizer.decode(&tokens), text.as_bytes());
        assert_eq!(tokens.iter().find(|&&id| tokenizer.is_special(id)), None);
        assert!(!tokens.contains(&tokenizer.token_id("<tool_call>").unwrap()));
        let parsed = tokenizer.encode(text, SpecialTokens::Parse).unwrap();
        assert!(parsed.contains(&tokenizer.token_id("<|im_start|>").unwrap()));
        assert_eq!(tokenizer.decode(&parsed), text.as_bytes());
    }
}

#[test]
fn both_files_give_the_same_tokenizer() {
    let mut json = toy_json();
    json["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [
        { "type": "Split", "pattern": { "Regex": super::vocab::QWEN2 }, "behavior": "Isolated", "invert": false },
        { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
    ] });
    let config = json!({
        "eos_token": { "content": "<|im_end|>" },
        "chat_template": [{ "name": "default", "template": "a" }, { "name": "tool_use", "template": "b" }],
    });
    let generation = json!({ "eos_token_id": [263, 265] });
    let files = [
        ("tokenizer.json", &json),
        ("tokenizer_config.json", &config),
        ("generation_config.json", &generation),
    ];
    let folder = folder(&files);
    let (ours, toy) = (Tokenizer::from_dir(folder.path()).unwrap(), toy());
    assert_eq!(ours.vocab_size(), toy.vocab_size());
    assert_eq!(ours.special_ids().collect::<Vec<_>>(), toy.special_ids().collect::<Vec<_>>());
    assert_eq!((ours.end_ids(), toy.end_ids()), (&[265, 263][..], &[263, 265][..]));
    assert_eq!((ours.chat_template("default"), ours.chat_template("tool_use")), (Some("a"), Some("b")));
    for text in ["true story: ab  \"x\":  <tool_call>", "é e\u{301} 日本\r\n\t  12 it's"] {
        for special in [SpecialTokens::Parse, SpecialTokens::Plain] {
            assert_eq!(ours.encode(text, special).unwrap(), toy.encode(text, special).unwrap());
        }
    }
}

#[test]
fn a_template_file_wins() {
    let (json, config) = (toy_json(), json!({ "chat_template": "from the configuration" }));
    let folder = folder(&[("tokenizer.json", &json), ("tokenizer_config.json", &config)]);
    std::fs::write(folder.path().join("chat_template.jinja"), "from the file").unwrap();
    let tokenizer = Tokenizer::from_dir(folder.path()).unwrap();
    assert_eq!(tokenizer.chat_template("default"), Some("from the file"));
}

/// Models for embeddings read a text's vector at a token that is behind it.
#[test]
fn what_is_behind_a_text_to_embed() {
    assert_eq!(toy().text_end(), None);
    let gguf = |add_eos| Tokenizer::from_vocab(VocabParts { add_eos, ..toy_parts() }).unwrap();
    assert_eq!((gguf(true).text_end(), gguf(false).text_end()), (Some(263), None));

    let mut json = toy_json();
    let template = json!({ "type": "TemplateProcessing", "single": [
        { "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": "<|im_end|>", "type_id": 0 } },
    ] });
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false });
    let config = json!({ "eos_token": "<|endoftext|>" });
    for steps in [template.clone(), json!({ "type": "Sequence", "processors": [bytes.clone(), template] })] {
        json["post_processor"] = steps;
        let folder = folder(&[("tokenizer.json", &json), ("tokenizer_config.json", &config)]);
        let tokenizer = Tokenizer::from_dir(folder.path()).unwrap();
        assert_eq!(tokenizer.text_end(), tokenizer.token_id("<|im_end|>"));
    }
    json["post_processor"] = bytes;
    let folder = folder(&[("tokenizer.json", &json)]);
    assert_eq!(Tokenizer::from_dir(folder.path()).unwrap().text_end(), None);
}

#[test]
fn unnamed_tokens_of_qwen_get_their_names() {
    let mut parts = toy_parts();
    for id in parts.tokens.len()..151_666 {
        parts.tokens.push(if id == 151_645 { "<|im_end|>".to_owned() } else { format!("[PAD{id}]") });
        parts.token_types.push(if id == 151_645 { 3 } else { 4 });
    }
    // Only one token may have the name, so the toy's own two are renamed.
    parts.tokens[265] = "<|old|>".to_owned();
    parts.tokens[266] = "<old>".to_owned();
    let tokenizer = Tokenizer::from_vocab(parts).unwrap();
    let tokens = tokenizer.encode("<tool_call>[PAD151665]", SpecialTokens::Parse).unwrap();
    assert_eq!(tokens[0], 151_657);
    assert!(tokens.len() > 2, "a placeholder is not a word: {tokens:?}");
    assert_eq!(tokenizer.fim().unwrap().middle, 151_660);
}

#[test]
fn hostile_vocabularies_are_errors() {
    let refused = |change: &dyn Fn(&mut VocabParts), expected: &str| {
        let mut parts = toy_parts();
        change(&mut parts);
        let error = Tokenizer::from_vocab(parts).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(&|p| p.model = "llama".to_owned(), "tokenizer `llama` is not supported");
    refused(
        &|p| p.pre = "mystery".to_owned(),
        "pre-tokenizer `mystery` is not supported; supported: qwen2, gpt-2",
    );
    refused(&|p| p.tokens[5] = p.tokens[4].clone(), "tokenizer.ggml.tokens: tokens `4` and `5` are the same");
    refused(&|p| p.tokens[65] = "zzz".to_owned(), "no token for the byte `0x41`");
    refused(&|p| p.tokens.clear(), "tokenizer.ggml.token_type");
    refused(&|p| (p.tokens, p.token_types) = (vec![], vec![]), "tokenizer.ggml.tokens");
    refused(&|p| p.merges.push("a zzz".to_owned()), "tokenizer.ggml.merges: merge `7` needs the token `zzz`");
    refused(&|p| p.merges.push("b a".to_owned()), "needs the token `ba`");
    refused(&|p| p.merges.push("ab".to_owned()), "merge `7` is not two tokens");
    refused(&|p| p.ends = vec![9999], "token `9999` does not exist");
    refused(&|p| p.bos = Some(u32::MAX), "does not exist");
    refused(&|p| p.token_types.truncate(3), "`3` types for `267` tokens");
}

#[test]
fn hostile_json_is_an_error() {
    let refused = |change: &dyn Fn(&mut Value), expected: &str| {
        let mut json = toy_json();
        change(&mut json);
        let folder = folder(&[("tokenizer.json", &json)]);
        let error = Tokenizer::from_dir(folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(&|j| j["model"]["vocab"]["x2"] = json!(u32::MAX), "model.vocab: ids must be below");
    refused(&|j| j["model"]["vocab"]["x2"] = json!(7), "two tokens have the id `7`");
    refused(&|j| j["model"]["merges"] = json!([["ab", "tr"]]), "needs the token `abtr`");
    refused(&|j| j["model"]["type"] = json!("Unigram"), "tokenizer `Unigram` is not supported");
    refused(&|j| j["model"]["vocab"] = json!([]), "tokenizer.json");
    refused(&|j| j["normalizer"] = json!({ "type": "Lowercase" }), "normalizer `Lowercase` is not supported");
    refused(
        &|j| j["pre_tokenizer"] = json!({ "type": "Whitespace" }),
        "pre-tokenizer `Whitespace` is not supported",
    );
    refused(&|j| j["pre_tokenizer"] = Value::Null, "pre-tokenizer `none` is not supported");
    refused(&|j| j["added_tokens"][0]["id"] = json!(4_000_000_000u32), "ids must be below");
    let split = json!({ "type": "Sequence", "pretokenizers": [
        { "type": "Split", "pattern": { "Regex": "(" }, "behavior": "Isolated", "invert": false },
        { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
    ] });
    refused(&move |j| j["pre_tokenizer"] = split.clone(), "pre_tokenizer");
    assert!(matches!(Tokenizer::from_dir("no/such/folder"), Err(Error::Io { .. })));
}

#[test]
fn unusual_tokens_and_ids_do_no_harm() {
    let mut parts = toy_parts();
    parts.tokens.extend(["x".repeat(100_000), "日本 not of the alphabet".to_owned(), String::new()]);
    // The same bytes twice: literally, and in the alphabet.
    parts.tokens.extend(["éa".to_owned(), "Ã©a".to_owned()]);
    parts.token_types.extend([1, 1, 3, 4, 1]);
    let tokenizer = Tokenizer::from_vocab(parts).unwrap();
    assert_eq!(tokenizer.token_bytes(267).len(), 100_000);
    assert_eq!(tokenizer.token_bytes(268), "日本 not of the alphabet".as_bytes());
    assert_eq!(tokenizer.token_bytes(u32::MAX), b"");
    assert_eq!(tokenizer.decode(&[97, 9999, 98]), b"ab");
    let env = tokenizer.trie_env().unwrap();
    assert_eq!(env.tok_trie().token(267), b"", "too long for the trie");
}

#[test]
fn a_million_spaces_are_not_lost() {
    let tokenizer = toy();
    let text = format!("{}x", " ".repeat(1_000_000));
    let tokens = tokenizer.encode(&text, SpecialTokens::Parse).unwrap();
    assert_eq!(tokenizer.decode(&tokens), text.as_bytes());
}

#[test]
fn forced_text_has_its_own_bytes() {
    let tokenizer = toy();
    let env = tokenizer.trie_env().unwrap();
    for text in ["e\u{301}<tool_call>true".as_bytes(), b"\xe2\x82", b"<|im_end|>"] {
        let tokens = env.tokenize_bytes(text);
        assert_eq!(tokenizer.decode(&tokens), text);
        assert!(tokens.iter().all(|&id| !tokenizer.is_special(id)));
    }
    assert!(env.tokenize_bytes(b"<tool_call>").contains(&266));
}

/// What the normalizer makes of the text, in another way than through the tokenizer's own pipeline.
fn composed(text: &str) -> String {
    let mut normalized = tokenizers::NormalizedString::from(text);
    normalized.nfc();
    normalized.get().to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn damaged_vocabularies_do_not_panic(
        tokens in prop::collection::vec((0usize..280, "\\PC{0,3}|<\\|[a-c]\\|>|[Ġ-ń]{1,4}"), 0..4),
        kinds in prop::collection::vec((0usize..280, -1i32..9), 0..4),
        merges in prop::collection::vec("[abtrue :]{0,3} [abtrue]{0,3}", 0..3),
        ids in prop::collection::vec(prop::option::of(0u32..300), 6),
    ) {
        let mut parts = toy_parts();
        for (at, token) in tokens {
            match parts.tokens.get_mut(at) {
                Some(old) => *old = token,
                None => {
                    parts.tokens.push(token);
                    parts.token_types.push(4);
                }
            }
        }
        for (at, kind) in kinds {
            if let Some(old) = parts.token_types.get_mut(at) {
                *old = kind;
            }
        }
        parts.merges.extend(merges);
        parts.ends = ids[0].into_iter().collect();
        (parts.bos, parts.pad, parts.fim_prefix) = (ids[1], ids[2], ids[3]);
        if let Ok(tokenizer) = Tokenizer::from_vocab(parts) {
            let text = "a true story: \u{301}<|im_end|>";
            let tokens = tokenizer.encode(text, SpecialTokens::Parse).unwrap();
            prop_assert!(tokens.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
            if let Ok(env) = tokenizer.trie_env() {
                env.tokenize_bytes(text.as_bytes());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn decoding_gives_the_text_back(text in "\\PC{0,40}|[ \n\r\tab'<|>im_startend\u{301}eé日🙂]{0,40}|(?s:.{0,40})") {
        static TOKENIZERS: OnceLock<Vec<Tokenizer>> = OnceLock::new();
        let made = || [Some(toy()), published("qwen3")].into_iter().flatten().collect();
        for tokenizer in TOKENIZERS.get_or_init(made) {
            let plain = tokenizer.encode(&text, SpecialTokens::Plain).unwrap();
            prop_assert_eq!(tokenizer.decode(&plain), composed(&text).into_bytes());
        }
    }
}
