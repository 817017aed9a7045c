//! A step's masks are computed between its start and the wait for it, on however few threads.

use super::*;
use crate::engine::Canceller;
use crate::tokenizer::tests::toy;
use crate::{Event, Grammar, Matcher, Sampler, SamplerOptions, TextStream};
use coder_kernels::{Choice, Pick};
use std::sync::Mutex;

/// What happened, in its order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().expect("nobody panics with it").push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("nobody panics with it"))
    }
}

/// A card on which every token is as good as every other, and which notes when it is started and waited for.
struct Noting {
    log: Log,
    vocab: usize,
    wanted: usize,
    choices: Vec<Choice>,
}

impl Noting {
    fn new(log: Log, vocab: usize) -> Self {
        Self { log, vocab, wanted: 0, choices: vec![Choice::new(vocab); 8] }
    }
}

impl Runner for Noting {
    fn start(&mut self, batch: &Batch) -> Result<()> {
        self.wanted = batch.logits.len();
        self.log.note("start");
        Ok(())
    }

    fn logits(&mut self) -> Result<&[f32]> {
        self.log.note("all logits");
        Ok(&[])
    }

    fn choose<'p>(&mut self, picks: &mut dyn Iterator<Item = Pick<'p>>) -> Result<Outcome<'_>> {
        let logits = vec![1.0; self.vocab];
        let mut picked = 0;
        for (choice, pick) in self.choices.iter_mut().zip(picks) {
            choice.of(&logits, &pick);
            let allowed = pick.mask.map(|words| words.iter().map(|word| word.count_ones()).sum::<u32>());
            self.log.note(format!("wait with {allowed:?} allowed"));
            picked += 1;
        }
        assert_eq!(picked, self.wanted);
        Ok(Outcome::chosen(&[], self.vocab, &self.choices[..picked]))
    }

    fn hidden(&mut self) -> Result<&[f32]> {
        Ok(&[])
    }

    fn weight_bytes_per_token(&self) -> u64 {
        0
    }

    fn arithmetic(&self) -> String {
        String::new()
    }

    fn block_bytes(&self) -> usize {
        0
    }

    fn read_block(&mut self, _block: u32, _out: &mut [u8]) -> Result<()> {
        Ok(())
    }

    fn write_block(&mut self, _block: u32, _data: &[u8]) -> Result<()> {
        Ok(())
    }
}

fn on_one_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread").install(work)
}

#[test]
fn what_is_done_in_the_meantime_is_done_before_anybody_waits() {
    let log = Log::default();
    let mut runner = Noting::new(log.clone(), 64);
    let batch = Batch { logits: vec![0], ..Batch::default() };
    on_one_thread(|| {
        begin(&mut runner, &batch, || log.note("masks")).expect("a step");
        runner.choose(&mut [Pick { mask: None, candidates: 1 }].into_iter()).expect("a choice");
    });
    assert_eq!(log.take(), ["start", "masks", "wait with None allowed"]);
}

/// One answer under a grammar of three letters, of which two may come first and one of three then.
#[test]
fn the_mask_of_every_token_is_there_when_its_step_is_waited_for() {
    let log = Log::default();
    let tokenizer = Arc::new(toy());
    let vocab = tokenizer.vocab_size();
    let runner = Box::new(Noting::new(log.clone(), vocab));
    let capacity = Capacity { rows: 16, sequences: 4 };
    let open = Arc::new(AtomicUsize::new(1));
    let stepper = Stepper::new((runner, 8), (capacity, 8), tokenizer.clone(), None, open);
    let grammar = Grammar::Regex("[xy][xyz][wxyz]".into());
    let (events, received) = mpsc::channel();
    let job = Job {
        prompt: vec![1, 2, 3],
        max_tokens: 8,
        sampler: Sampler::new(&SamplerOptions::default(), vocab).expect("options"),
        matcher: Some(Matcher::new(&tokenizer, &grammar).expect("a grammar")),
        text: TextStream::new(&[]).expect("no stop strings"),
        show_special: false,
        tags: Vec::new(),
        ignore_end: false,
        pool: None,
        speculate: false,
        priority: 0,
        deadline: None,
        events,
        canceller: Canceller::default(),
        queued: Instant::now(),
    };
    let (orders, taken) = mpsc::channel();
    orders.send(Order::Job(Box::new(job))).expect("somebody listens");
    drop(orders);
    on_one_thread(|| stepper.run(taken));
    let step = |allowed: u32| ["start".to_owned(), format!("wait with Some({allowed}) allowed")];
    assert_eq!(log.take(), [2, 3, 4].map(step).concat());
    let text: String = received
        .iter()
        .filter_map(
            |event| if let Event::Token(token) = event.expect("an event") { Some(token.text) } else { None },
        )
        .collect();
    // Of equals the token with the lowest number.
    assert_eq!(text, "xxw");
}
