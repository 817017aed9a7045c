//! The container: header, keys, tensor table, split sets.

use std::{fs, path::Path};

use coder_engine::{Error, Gguf, Weights, gguf::Value, weights::Role};
use coder_kernels::BlockType;

use crate::{
    refused, unsupported,
    writer::{V, Writer, model, pattern, text},
};

fn open(w: &Writer) -> Result<Gguf, Error> {
    Gguf::from_bytes("test.gguf", w.build())
}

#[test]
fn values_come_back_in_both_versions() {
    for version in [2, 3] {
        let w = Writer::new(version)
            .key("u16", V::U16(65535))
            .key("i32", V::I32(-7))
            .key("u64", V::U64(u64::MAX))
            .key("f32", V::F32(0.1))
            .key("f64", V::Raw(12, 0.1f64.to_le_bytes().to_vec()))
            .key("yes", V::Bool(true))
            .key("str", text("größer"))
            .key("strs", V::Strs(vec!["a".into(), String::new(), "Ġb".into()]))
            .key("i32s", V::I32s(vec![1, -2, 3]))
            .key("none", V::I32s(vec![]))
            .key(
                "f64s",
                V::Raw(9, [&12u32.to_le_bytes()[..], &1u64.to_le_bytes(), &2.5f64.to_le_bytes()].concat()),
            );
        let gguf = open(&w).unwrap();
        let m = gguf.metadata();
        assert_eq!((gguf.version(), m.len()), (version, 11));
        assert_eq!((m.u32("u16").unwrap(), m.usize("u16").unwrap()), (Some(65535), Some(65535)));
        assert_eq!(m.get("i32"), Some(Value::Signed(-7)));
        assert_eq!(m.get("u64"), Some(Value::Unsigned(u64::MAX)));
        assert_eq!((m.f32("f32").unwrap(), m.f64("f64").unwrap()), (Some(0.1), Some(0.1)));
        assert_eq!(m.f64("u16").unwrap(), Some(65535.0));
        assert_eq!((m.bool("yes").unwrap(), m.str("str").unwrap()), (Some(true), Some("größer")));
        let strings = m.strings("strs").unwrap().unwrap();
        assert_eq!(strings.len(), 3);
        assert_eq!(strings.collect::<Result<Vec<_>, _>>().unwrap(), ["a", "", "Ġb"]);
        assert_eq!((m.i32s("i32s").unwrap(), m.i32s("none").unwrap()), (Some(vec![1, -2, 3]), Some(vec![])));
        assert_eq!(m.f32s("f64s").unwrap(), Some(vec![2.5]));
        assert!(m.keys().is_sorted() && m.keys().count() == 11);
        assert!(m.get("absent").is_none() && m.u32("absent").unwrap().is_none());
    }
}

#[test]
fn a_value_of_another_type_is_an_error_that_names_the_key() {
    let w = Writer::new(3)
        .key("str", text("x"))
        .key("low", V::I32(-1))
        .key("big", V::U64(1 << 32))
        .key("odd", V::U64((1 << 60) + 1))
        .key("list", V::I32s(vec![1, -1]))
        .key("bytes", V::Raw(9, [&0u32.to_le_bytes()[..], &3u64.to_le_bytes(), b"abc"].concat()));
    let gguf = open(&w).unwrap();
    let m = gguf.metadata();
    let errors = [
        (refused(m.u32("str")), "key `str`", "a string"),
        (refused(m.usize("low")), "key `low`", "the integer -1"),
        (refused(m.u32("big")), "key `big`", "the integer 4294967296"),
        (refused(m.f64("odd")), "key `odd`", "a number"),
        (refused(m.f64("str")), "key `str`", "a number"),
        (refused(m.bool("low")), "key `low`", "a boolean"),
        (refused(m.str("low")), "key `low`", "a string"),
        (refused(m.strings("list").map(|_| ())), "key `list`", "an array of 2 i32"),
        (refused(m.strings("str").map(|_| ())), "key `str`", "an array of strings"),
        (refused(m.u32s("list")), "key `list`", "entry 1 is the integer -1"),
        (refused(m.f32s("list")), "key `list`", "entry 0"),
        (refused(m.i32s("bytes")), "key `bytes`", "an array of 3 u8"),
    ];
    for ((at, problem), key, words) in errors {
        assert_eq!(at, key);
        assert!(problem.contains(words), "{problem}");
    }
}

#[test]
fn tensors_come_back_with_shape_type_and_data() {
    for (version, alignment) in [(2, 32), (3, 8), (3, 4096)] {
        let w = model(version, "qwen3moe").align(alignment);
        let w = w.key("general.alignment", V::U32(alignment as u32));
        let gguf = open(&w).unwrap();
        assert_eq!(gguf.tensors().count(), 3 + 2 * 12);
        let t = gguf.tensor("blk.1.ffn_down_exps.weight").unwrap();
        assert_eq!((t.name(), t.shape()), ("blk.1.ffn_down_exps.weight", &[32, 64, 4][..]));
        assert_eq!((t.kind().unwrap(), t.type_name()), (BlockType::Q8_0, "Q8_0".into()));
        assert_eq!(t.data(), pattern(t.name(), 64 * 4 * 34));
        let rows = gguf.rows(t.name(), &[32, 64, 4]).unwrap();
        assert_eq!((rows.rows(), rows.cols(), rows.data()), (256, 32, t.data()));
        assert!(gguf.rows("output_norm.weight", &[64, 1, 1]).is_ok());
        assert!(gguf.tensor("absent").is_none());
        let total: usize = gguf.tensors().map(|t| t.data().len()).sum();
        assert_eq!(gguf.data_bytes(), total);
    }
}

#[test]
fn rows_name_the_tensor_and_both_shapes() {
    let gguf = open(&model(3, "qwen2")).unwrap();
    let (at, problem) = refused(gguf.rows("token_embd.weight", &[64, 25]));
    assert_eq!(at, "tensor `token_embd.weight`");
    assert!(problem.contains("[64, 24]") && problem.contains("[64, 25]"), "{problem}");
    assert_eq!(refused(gguf.rows("absent", &[1])), ("tensor `absent`".into(), "is missing".into()));
}

#[test]
fn an_unsupported_type_matters_only_when_it_is_used() {
    let odd = |id, bytes| model(3, "qwen2").raw_tensor("odd", id, &[256, 2], None, vec![0; bytes]);
    for (id, bytes, name) in
        [(9, 640, "Q8_1"), (16, 132, "IQ2_XXS"), (39, 272, "MXFP4"), (24, 512, "I8"), (77, 0, "77")]
    {
        let gguf = open(&odd(id, bytes)).unwrap();
        assert_eq!(gguf.tensor("odd").unwrap().type_name(), name);
        let (what, got) = unsupported(gguf.rows("odd", &[256, 2]));
        assert_eq!((what, got), ("tensor type", format!("{name} of tensor odd")));
        Weights::from_gguf(gguf).unwrap().matrix(Role::Q(1)).unwrap();
    }
}

/// Every prefix of a file is refused: there is no byte in it that is not needed.
#[test]
fn truncated_files_are_refused() {
    let bytes = model(3, "qwen3").build();
    for end in 0..bytes.len() {
        let result = Gguf::from_bytes("test.gguf", bytes[..end].to_vec());
        assert!(matches!(result, Err(Error::BadFile { .. })), "{end}");
    }
}

#[test]
fn bad_headers_are_refused() {
    let header = |magic: &[u8], version: u32, tensors: u64, keys: u64| {
        let fields = [magic, &version.to_le_bytes(), &tensors.to_le_bytes(), &keys.to_le_bytes()];
        Gguf::from_bytes("test.gguf", fields.concat()).map(|_| ())
    };
    header(b"GGUF", 3, 0, 0).unwrap();
    assert_eq!(refused(header(b"PK\x03\x04", 3, 0, 0)).0, "magic");
    assert_eq!(unsupported(header(b"GGUF", 1, 0, 0)), ("GGUF version", "1".into()));
    assert_eq!(unsupported(header(b"GGUF", 4, 0, 0)), ("GGUF version", "4".into()));
    assert_eq!(unsupported(header(b"GGUF", 3 << 24, 0, 0)), ("GGUF version", "3, big endian".into()));
    for n in [1, 1 << 32, 1 << 60, u64::MAX] {
        assert_eq!(refused(header(b"GGUF", 3, n, 0)).0, "tensor count");
        assert_eq!(refused(header(b"GGUF", 3, 0, n)).0, "key count");
    }
}

#[test]
fn bad_keys_are_refused_by_name() {
    let long = |n: u64, rest: &[u8]| [&n.to_le_bytes(), rest].concat();
    let array = |kind: u32, n: u64, rest: &[u8]| [&kind.to_le_bytes()[..], &long(n, rest)].concat();
    let cases = [
        (V::Raw(13, vec![0; 8]), "value type 13"),
        (V::Raw(u32::MAX, vec![0; 8]), "value type"),
        (V::Raw(7, vec![2]), "boolean of 2"),
        (V::Raw(8, long(u64::MAX, b"abc")), "string of 18446744073709551615"),
        (V::Raw(8, long(2, b"\xff\xff")), "UTF-8"),
        (V::Raw(9, array(0, 1 << 60, b"")), "1152921504606846976 entries"),
        (V::Raw(9, array(10, (1 << 61) + 1, &[0; 8])), "entries"),
        (V::Raw(9, array(8, 1 << 60, b"")), "entries"),
        (V::Raw(9, array(8, 2, &[long(1, b"a"), long(9, b"a")].concat())), "entry 1"),
        (V::Raw(9, array(9, 1, &array(0, 1, b"a"))), "array of arrays"),
        (V::Raw(9, array(13, 1, &[0; 8])), "value type 13"),
        (V::Raw(9, array(7, 2, &[1, 3])), "boolean of 3"),
    ];
    for (value, words) in cases {
        let (at, problem) = refused(open(&Writer::new(3).key("first", V::U32(1)).key("the.key", value)));
        assert_eq!(at, "key `the.key`", "{problem}");
        assert!(problem.contains(words), "{problem}");
    }
    let twice = Writer::new(3).key("b", V::U32(1)).key("a", V::U32(1)).key("b", V::U32(2));
    assert_eq!(refused(open(&twice)), ("key `b`".into(), "occurs twice".into()));
    assert_eq!(refused(open(&Writer::new(3).key("", V::U32(1)))).0, "key 0");
    assert_eq!(refused(open(&Writer::new(3).key(&"k".repeat(65536), V::U32(1)))).0, "key 0");
    for value in [V::U32(0), V::U32(24), V::U32(4), V::U32(1 << 21), V::I32(-32), text("32"), V::U64(1 << 63)]
    {
        let w = Writer::new(3).key("general.alignment", value);
        assert_eq!(refused(open(&w)).0, "key `general.alignment`");
    }
}

#[test]
fn bad_tensors_are_refused_by_name() {
    let check = |shape: &[u64], type_id: u32, offset: Option<u64>, words: &str| {
        let w = Writer::new(3).tensor("first", BlockType::F32, &[8, 4]);
        let (at, problem) = refused(open(&w.raw_tensor("the.tensor", type_id, shape, offset, vec![0; 128])));
        assert_eq!(at, "tensor `the.tensor`", "{problem}");
        assert!(problem.contains(words), "{problem}");
    };
    check(&[], 0, None, "0 dimensions");
    check(&[1, 1, 1, 1, 32], 0, None, "5 dimensions");
    check(&[8, 0], 0, None, "dimension of 0");
    check(&[1 << 62, 1 << 62], 0, None, "too large");
    check(&[1 << 32, 1 << 32], 0, None, "too large");
    check(&[u64::MAX], 0, None, "too large");
    check(&[1 << 31, 1 << 31, 2, 1 << 31], 24, None, "too large");
    check(&[33, 1], 8, None, "multiple of 32");
    check(&[128, 1], 12, None, "multiple of 256");
    check(&[64, 1], 0, None, "needs 256 bytes");
    check(&[8, 4], 0, Some(160), "needs 128 bytes");
    check(&[8, 4], 0, Some(u64::MAX - 31), "needs 128 bytes");
    check(&[8, 4], 0, Some(132), "multiple of 32");
    check(&[8, 4], 0, Some(96), "within that of another tensor");
    check(&[8, 4], 99, Some(1 << 40), "needs 0 bytes");
    let twice = model(3, "qwen2").tensor("blk.0.attn_q.weight", BlockType::F32, &[8, 4]);
    assert_eq!(refused(open(&twice)), ("tensor `blk.0.attn_q.weight`".into(), "occurs twice".into()));
    assert_eq!(refused(open(&Writer::new(3).tensor("", BlockType::F32, &[8]))).0, "tensor 0");
    assert_eq!(refused(open(&Writer::new(3).tensor(&"t".repeat(300), BlockType::F32, &[8]))).0, "tensor 0");
}

#[test]
fn names_in_messages_are_short_and_printable() {
    let w = Writer::new(3).key(&format!("\u{1b}[31m{}", "k".repeat(60_000)), V::Raw(99, vec![0; 8]));
    let message = open(&w).unwrap_err().to_string();
    assert!(message.len() < 300 && !message.contains('\u{1b}'), "{message}");
}

/// The parts of a model, the first without tensors, as `gguf-split --no-tensor-first-split` writes them.
fn parts() -> Vec<Writer> {
    let whole = model(3, "qwen3");
    let split = |w: Writer, no: u16| {
        w.key("split.no", V::U16(no)).key("split.count", V::U16(3)).key("split.tensors.count", V::I32(25))
    };
    let names: Vec<String> = open(&whole).unwrap().tensors().map(|t| t.name().to_owned()).collect();
    let first = names.iter().fold(whole, |w, name| w.without(name));
    let mut parts = vec![split(first, 0), split(Writer::new(3), 1), split(Writer::new(3), 2)];
    let whole = open(&model(3, "qwen3")).unwrap();
    for (i, t) in whole.tensors().enumerate() {
        let shape: Vec<u64> = t.shape().iter().map(|&n| n as u64).collect();
        let part = &mut parts[1 + i % 2];
        *part = part.clone().tensor(t.name(), t.kind().unwrap(), &shape);
    }
    parts
}

fn write(folder: &Path, parts: &[Writer]) {
    for (i, part) in parts.iter().enumerate() {
        fs::write(folder.join(format!("m-{:05}-of-00003.gguf", i + 1)), part.build()).unwrap();
    }
}

#[test]
fn a_split_set_opens_by_any_part() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &parts());
    let whole = Weights::from_gguf(open(&model(3, "qwen3")).unwrap()).unwrap();
    for i in 1..=3 {
        let path = folder.path().join(format!("m-0000{i}-of-00003.gguf"));
        let weights = Weights::open(&path).unwrap();
        assert_eq!(weights.path(), folder.path().join("m-00001-of-00003.gguf"));
        assert_eq!((weights.config(), weights.bytes()), (whole.config(), whole.bytes()));
        for role in Role::all(whole.config()) {
            let (a, b) = (weights.matrix(role).unwrap(), whole.matrix(role).unwrap());
            assert_eq!(a.rows().unwrap().data(), b.rows().unwrap().data(), "{role:?}");
        }
    }
}

#[test]
fn a_split_set_that_does_not_fit_together_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |i: usize| folder.path().join(format!("m-0000{i}-of-00003.gguf"));
    let edited = |edit: &dyn Fn(&mut Vec<Writer>)| {
        let mut parts = parts();
        edit(&mut parts);
        write(folder.path(), &parts);
        refused(Gguf::open(&path(1)).map(|_| ()))
    };
    let count = |n| V::I32(n);
    assert_eq!(
        edited(&|p| p[0] = p[0].clone().set("split.tensors.count", count(24))).0,
        "key `split.tensors.count`"
    );
    assert_eq!(
        edited(&|p| p[0] = p[0].clone().without("split.tensors.count")).0,
        "key `split.tensors.count`"
    );
    assert_eq!(edited(&|p| p[0] = p[0].clone().set("split.no", V::U16(3))).0, "key `split.no`");
    assert_eq!(edited(&|p| p[0] = p[0].clone().without("split.no")).0, "key `split.no`");
    assert_eq!(edited(&|p| p[0] = p[0].clone().set("split.count", V::U16(4))).0, "key `split.count`");
    assert_eq!(edited(&|p| p[0] = p[0].clone().set("split.count", V::U32(1 << 20))).0, "key `split.count`");
    assert_eq!(edited(&|p| p.swap(1, 2)).0, "keys `split.no` and `split.count`");
    assert_eq!(edited(&|p| p[2] = Writer::new(3)).0, "keys `split.no` and `split.count`");
    let again = edited(&|p| {
        p[1] = p[1].clone().without("output.weight").tensor("output_norm.weight", BlockType::F32, &[64]);
        p[2] = p[2].clone().without("output_norm.weight").tensor("output_norm.weight", BlockType::F32, &[64]);
    });
    assert!(again.0.contains("output_norm.weight") && again.1.contains("m-0000"), "{again:?}");

    write(folder.path(), &parts());
    fs::rename(path(1), folder.path().join("other.gguf")).unwrap();
    let (at, problem) = refused(Gguf::open(&folder.path().join("other.gguf")).map(|_| ()));
    assert!(at == "key `split.count`" && problem.contains("-00001-of-00003.gguf"), "{problem}");
    match Gguf::open(&path(2)) {
        Err(Error::Io { path: missing, .. }) => assert_eq!(missing, path(1)),
        other => panic!("{other:?}"),
    }
    let (at, _) = refused(open(&parts()[0]));
    assert_eq!(at, "key `split.count`");
}
