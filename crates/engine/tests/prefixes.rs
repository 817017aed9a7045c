//! Computed beginnings on disk: the next engine begins with them, bit for bit, and what is not whole is not used.

mod common;

use coder_engine::{Device, Engine, Error, KvType, Limit, Options, PrefixCache, Request, Usage};
use common::requests::{Random, essence};
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

const BLOCK: usize = 32;
/// Before the first block, and of one beside its numbers: see `prefixes.rs`.
const HEADER: usize = 8 + 4 + 4 + 32 + 8 + 8 + 32;
const NAMED: usize = 32 + 4 * BLOCK + 32;

fn options(file: &Path) -> Options {
    let mut options = Options::new(common::bundled());
    (options.context, options.prefix_cache) = (Some(512), Some(PrefixCache::new(file)));
    options
}

fn request(length: usize) -> Request {
    let prompt = (0..length as u32).map(|i| (i * 7 + i / 50) % 300).collect();
    Request { ignore_end: true, ..Request::new(prompt).limit(Limit::Require(8)) }
}

fn open(options: &Options) -> Engine {
    Engine::open(options).expect("a model")
}

/// Cached tokens, and what must not depend on them.
fn answer(engine: &Engine, length: usize) -> (usize, impl PartialEq + std::fmt::Debug + use<>) {
    let answer = engine.generate(request(length)).expect("started").finish().expect("an answer");
    (answer.summary.usage.cached_tokens, essence(&answer))
}

#[test]
fn the_next_engine_begins_with_what_this_one_ended_with() {
    let folder = tempfile::tempdir().expect("a folder");
    for (i, (device, kv, layers)) in [
        (Device::Cpu, KvType::F16, None),
        (Device::Cpu, KvType::F32, None),
        (Device::Cpu, KvType::Q8_0, None),
        (Device::Reference, KvType::F16, None),
        (Device::Reference, KvType::Q8_0, None),
        (Device::Cuda, KvType::F16, None),
        (Device::Cuda, KvType::Q8_0, Some(1)),
    ]
    .into_iter()
    .enumerate()
    {
        let mut options = options(&folder.path().join(format!("{i}")));
        (options.device, options.kv, options.gpu_layers) = (device, kv, layers);
        options.library = Some(common::library());
        let length = if device == Device::Cpu { 300 } else { 75 };
        let plain = Options { prefix_cache: None, ..options.clone() };
        // candle's products of few rows and of many differ in their last bits.
        let told = |engine: &Engine| match device {
            Device::Reference => {
                let request = Request { speculate: false, ..request(length) };
                let answer = engine.generate(request).expect("started").finish().expect("an answer");
                let ids = answer.tokens.iter().map(|token| token.id).collect::<Vec<_>>();
                (answer.summary.usage.cached_tokens, format!("{ids:?}"))
            }
            _ => {
                let (cached, essence) = answer(engine, length);
                (cached, format!("{essence:?}"))
            }
        };
        let (cached, expected) = told(&open(&plain));
        assert_eq!(cached, 0);
        assert_eq!(told(&open(&options)), (0, expected.clone()));
        let again = open(&options);
        assert_eq!(again.info().notice.is_some(), layers.is_some());
        assert_eq!(told(&again), (length / BLOCK * BLOCK, expected), "{device} {kv:?}");
        assert_eq!(again.stats().expect("an engine").blocks_used, 0);
        // Nothing is written where nothing is new.
        let before = fs::metadata(&options.prefix_cache.as_ref().expect("a file").path).expect("a file");
        assert_eq!(again.save_prefixes().expect("saved"), (length + 8) / BLOCK);
        drop(again);
        let after = fs::metadata(&options.prefix_cache.as_ref().expect("a file").path).expect("a file");
        assert_eq!(before.modified().expect("a time"), after.modified().expect("a time"));
    }
}

#[test]
fn after_a_long_common_beginning_the_next_engine_computes_a_twentieth() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = options(&folder.path().join("cache"));
    options.context = Some(1024);
    let first_token = |engine: Engine, last: u32| {
        let mut request = request(1000).limit(Limit::Require(1));
        request.prompt.extend([last; 8]);
        let answer = engine.generate(request).expect("started").finish().expect("an answer");
        let Usage { prompt_tokens, cached_tokens, .. } = answer.summary.usage;
        let rows = engine.stats().expect("an engine").rows as usize;
        assert_eq!(rows, prompt_tokens - cached_tokens);
        (rows, answer.summary.timings.prefill_s)
    };
    let (all, first) = first_token(open(&options), 1);
    let (few, second) = first_token(open(&options), 2);
    println!("{all} rows, {:.1} ms; then {few} rows, {:.1} ms", 1e3 * first, 1e3 * second);
    assert_eq!((all, few), (1008, 1008 - 1000 / BLOCK * BLOCK));
    assert!(all >= 20 * few);
}

#[test]
fn what_is_not_as_it_was_written_is_not_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache");
    let options = options(&path);
    let (_, expected) = answer(&open(&options), 140);
    let file = fs::read(&path).expect("a file");
    let blocks = 4;
    let record = (file.len() - HEADER) / blocks;
    assert_eq!(file.len(), HEADER + blocks * record);
    let with = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("written");
        let engine = open(&options);
        let notice = engine.info().notice.clone();
        let (cached, same) = answer(&engine, 140);
        assert_eq!(same, expected);
        (cached / BLOCK, notice)
    };
    assert_eq!(with(&file), (blocks, None));
    let flipped = |at: usize| {
        let mut bytes = file.clone();
        bytes[at] ^= 1;
        bytes
    };
    // Version, positions, identity, number of blocks (both ends), bytes of one, the header's sum.
    for at in [8, 12, 16, 47, 48, 55, 56, 63, 64, HEADER - 1] {
        let (cached, notice) = with(&flipped(at));
        assert!(cached == 0 && notice.is_some_and(|n| n.contains("starts empty")), "byte {at}");
    }
    for block in 0..blocks {
        let begin = HEADER + block * record;
        // Parent, first and last token, first and last byte of the numbers, sum.
        for at in [0, 32, NAMED - 33, NAMED - 32, record - 33, record - 32, record - 1] {
            let (cached, notice) = with(&flipped(begin + at));
            assert_eq!(cached, block, "byte {at} of block {block}");
            assert!(notice.is_some_and(|n| n.contains(&format!("`{block}` blocks of `{blocks}`"))));
        }
        // Cut off within it, or in front of it.
        for length in [begin, begin + record / 2] {
            assert_eq!(with(&file[..length]).0, block);
        }
        // One after another that it does not go on from.
        let mut swapped = file.clone();
        swapped[begin..begin + record].copy_from_slice(&file[HEADER..HEADER + record]);
        assert_eq!(with(&swapped).0, block.max(usize::from(block == 0) * blocks));
    }
    for length in [0, 1, 7, 8, 9, 95, HEADER] {
        let bytes = &file[..length];
        fs::write(&path, bytes).expect("written");
        match Engine::open(&options) {
            Ok(engine) => assert_eq!(answer(&engine, 140).0, 0, "{length} bytes"),
            Err(error) => assert!(length > 0 && length < 8, "{length} bytes: {error}"),
        }
    }
    let (cached, notice) = with(&[&file[..], b"more"].concat());
    assert!(cached == blocks && notice.is_some_and(|n| n.contains("damaged")));
}

#[test]
fn a_file_of_something_else_is_left_alone_and_one_of_another_model_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes.txt");
    fs::write(&path, "buy milk, and do not lose this").expect("written");
    for path in [path.as_path(), folder.path()] {
        let refused = Engine::open(&options(path));
        assert!(matches!(refused, Err(Error::Request { field: "prefix_cache", .. })), "{refused:?}");
    }
    assert_eq!(fs::read_to_string(&path).expect("text"), "buy milk, and do not lose this");

    let mut options = options(&folder.path().join("cache"));
    let (_, expected) = answer(&open(&options), 100);
    // Another cache type is another arithmetic.
    options.kv = KvType::F32;
    let engine = open(&options);
    assert!(engine.info().notice.as_ref().is_some_and(|notice| notice.contains("another model")));
    assert_eq!(answer(&engine, 100).0, 0);
    drop(engine);
    assert_eq!(answer(&open(&options), 100).0, 96);
    options.kv = KvType::F16;
    assert_eq!(answer(&open(&options), 100), (0, expected));
}

/// Answers each of these prompts, which begin with other tokens, in this order; gives what was cached of each.
fn ask(engine: &Engine, prompts: &[u32]) -> Vec<usize> {
    let answer = |&number: &u32| {
        let request = Request::new((0..70).map(|i| (number * 70 + i) % 300).collect());
        let answer = engine.generate(request.limit(Limit::Require(2))).expect("started").finish();
        answer.expect("an answer").summary.usage.cached_tokens
    };
    prompts.iter().map(answer).collect()
}

fn length(path: &Path) -> usize {
    fs::metadata(path).expect("a file").len() as usize
}

#[test]
fn the_file_is_no_larger_than_asked_for_and_keeps_what_was_used_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache");
    let mut options = options(&path);
    options.cache = Some(4096);
    // Two blocks each; the third process only uses what the first computed.
    for prompts in [&[0, 1][..], &[2], &[0]] {
        let engine = open(&options);
        ask(&engine, prompts);
    }
    let record = (length(&path) - HEADER) / 6;
    let bytes = (HEADER + 6 * record + record / 2) as u64;
    options.prefix_cache = Some(PrefixCache { path: path.clone(), bytes });
    let engine = open(&options);
    assert_eq!(ask(&engine, &[3]), [0]);
    assert_eq!(engine.save_prefixes().expect("saved"), 6);
    drop(engine);
    assert_eq!(length(&path), HEADER + 6 * record);
    // The fourth came in the place of the one that was not used for the longest time.
    let engine = open(&options);
    assert_eq!(ask(&engine, &[3, 0, 2, 1]), [64, 64, 64, 0]);
    drop(engine);
    // An odd number of blocks: of what was used longest ago, the beginning stays.
    let bytes = (HEADER + 3 * record) as u64;
    options.prefix_cache = Some(PrefixCache { path: path.clone(), bytes });
    drop(open(&options));
    assert_eq!(length(&path), HEADER + 3 * record);
    assert_eq!(ask(&open(&options), &[1, 2]), [64, 32]);
    // Nothing but the file is left in the folder.
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    // No room for one.
    options.prefix_cache = Some(PrefixCache { path: path.clone(), bytes: (HEADER + record - 1) as u64 });
    let refused = Engine::open(&options).expect_err("no room").to_string();
    assert!(refused.contains(&format!("give at least `{}`", HEADER + record)), "{refused}");
    // A folder that is not there: said at once and when asked to save, and answers do not depend on it.
    options.prefix_cache = Some(PrefixCache::new(folder.path().join("no/such/cache")));
    let engine = open(&options);
    assert!(engine.info().notice.as_ref().is_some_and(|notice| notice.contains("will not be kept")));
    assert_eq!(ask(&engine, &[1]), [0]);
    assert!(matches!(engine.save_prefixes(), Err(Error::Io { .. })));
}

#[test]
fn a_cache_smaller_than_the_file_and_other_engines_leave_what_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache");
    let mut options = options(&path);
    options.context = Some(128);
    options.cache = Some(4096);
    let (first, second) = (open(&options), open(&options));
    assert_eq!(ask(&first, &[0, 1]), [0, 0]);
    assert_eq!(ask(&second, &[2, 1]), [0, 0]);
    drop(first);
    drop(second);
    assert_eq!(ask(&open(&options), &[0, 1, 2]), [64, 64, 64]);
    // Room for one conversation.
    options.cache = Some(128);
    assert_eq!(ask(&open(&options), &[3]), [0]);
    assert_eq!(ask(&open(&options), &[4]), [0]);
    options.cache = Some(4096);
    let engine = open(&options);
    assert_eq!(ask(&engine, &[0, 1, 2, 3, 4]), [64; 5]);
    // A block of the file that is damaged meanwhile is not copied, nor what goes on from it.
    let file = fs::read(&path).expect("a file");
    let record = (file.len() - HEADER) / 10;
    let mut damaged = file.clone();
    damaged[HEADER + 2 * record + NAMED] ^= 1;
    drop(engine);
    fs::write(&path, &damaged).expect("written");
    options.cache = Some(128);
    let engine = open(&options);
    assert!(engine.info().notice.as_ref().is_some_and(|notice| notice.contains("damaged")));
    drop(engine);
    let engine = open(&options);
    assert_eq!(engine.info().notice, None);
    assert_eq!(engine.save_prefixes().expect("saved"), 8);
}

#[test]
fn many_at_once_read_and_replace_the_file_and_each_finds_it_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache");
    let options = options(&path);
    let expected: Vec<_> =
        (0..4).map(|i| answer(&open(&Options { prefix_cache: None, ..options.clone() }), 70 + i).1).collect();
    std::thread::scope(|scope| {
        for (i, expected) in expected.iter().enumerate() {
            let options = &options;
            scope.spawn(move || {
                for round in 0..10 {
                    let engine = open(options);
                    assert_eq!(engine.info().notice, None, "engine {i} in round {round}");
                    assert_eq!(answer(&engine, 70 + i).1, *expected);
                    ask(&engine, &[10 * round + i as u32]);
                    engine.save_prefixes().expect("saved");
                }
            });
        }
    });
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[test]
fn random_damage_changes_no_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache");
    let options = options(&path);
    let (_, expected) = answer(&open(&options), 100);
    let file = fs::read(&path).expect("a file");
    let mut random = Random(7);
    let mut used = 0;
    for round in 0..100 {
        let mut bytes = file.clone();
        for _ in 0..random.below(4) {
            let (from, to, len) = (random.below(bytes.len()), random.below(bytes.len()), random.below(300));
            let piece = bytes[from..bytes.len().min(from + len)].to_vec();
            match random.below(3) {
                0 => bytes.truncate(to.max(16)),
                1 => drop(bytes.splice(to..bytes.len().min(to + random.below(300)), piece)),
                _ => bytes[to] = random.below(256) as u8,
            }
        }
        fs::write(&path, bytes).expect("written");
        match Engine::open(&options) {
            Ok(engine) => {
                let (cached, same) = answer(&engine, 100);
                assert_eq!(same, expected, "round {round}");
                used += cached / BLOCK;
            }
            Err(error) => assert!(matches!(error, Error::Request { field: "prefix_cache", .. }), "{error}"),
        }
    }
    assert!(used > 50, "{used}");
}

#[test]
#[cfg(unix)]
fn the_file_is_for_its_owner_alone_and_one_that_others_may_write_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache");
    let options = options(&path);
    let mode = || fs::metadata(&path).expect("a file").permissions().mode() & 0o777;
    answer(&open(&options), 100);
    assert_eq!(mode(), 0o600);
    for open_to in [0o620, 0o602, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(open_to)).expect("set");
        let engine = open(&options);
        assert!(engine.info().notice.as_ref().is_some_and(|notice| notice.contains("other users")));
        assert_eq!(answer(&engine, 100).0, 0);
        drop(engine);
        assert_eq!(mode(), 0o600);
    }
    assert_eq!(answer(&open(&options), 100).0, 96);
    // A link is replaced, and what it leads to stays.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    let before = fs::read(&path).expect("a file");
    let linked = Options { prefix_cache: Some(PrefixCache::new(&link)), ..options.clone() };
    let engine = open(&linked);
    assert_eq!(answer(&engine, 200).0, 96);
    drop(engine);
    assert!(!fs::symlink_metadata(&link).expect("a file").is_symlink());
    assert!(fs::read(&path).expect("a file") == before);
    // What a process left that was killed while it wrote goes once it is old.
    let (old, young) = (folder.path().join(".cache.a.partial"), folder.path().join(".cache.b.partial"));
    for left in [&old, &young] {
        fs::write(left, "half of a file").expect("written");
    }
    let hours_ago = SystemTime::now() - Duration::from_secs(2 * 3600);
    File::options().write(true).open(&old).and_then(|file| file.set_modified(hours_ago)).expect("dated");
    ask(&open(&options), &[1]);
    assert!(!old.exists() && young.exists());
}
