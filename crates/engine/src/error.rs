use std::path::PathBuf;

/// What can go wrong in the engine, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A model file breaks its format: use another file.
    #[error("`{}`: {at}: {problem}", path.display())]
    BadFile {
        /// Which file.
        path: PathBuf,
        /// The metadata key, tensor or field, such as "tensor `output.weight`".
        at: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The file is sound, but this engine cannot run it.
    #[error("{what} `{got}` is not supported; supported: {supported}")]
    Unsupported {
        /// What kind of thing: "architecture", "tensor type", "pre-tokenizer".
        what: &'static str,
        /// What the file asks for.
        got: String,
        /// What there is.
        supported: String,
    },
    /// A chat template does not compile or fails on these messages.
    #[error("chat template: {0}")]
    Template(String),
    /// A grammar does not compile; nothing was generated.
    #[error("grammar: {0}")]
    Grammar(String),
    /// A tool cannot be called as its declaration says; nothing was generated.
    #[error("tool `{tool}`: `{path}`: {problem}")]
    Tool {
        /// Its name.
        tool: String,
        /// Where in the schema of its parameters: a JSON pointer, empty for all of it.
        path: String,
        /// What is wrong there, or would not be enforced.
        problem: String,
    },
    /// The model's logits cannot be sampled: a broken model file or device.
    #[error("logits: {0}")]
    Logits(String),
    /// A request's field is out of range or contradicts another.
    #[error("`{field}`: {problem}")]
    Request {
        /// The field.
        field: &'static str,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// Prompt and answer do not fit. Nothing is ever truncated.
    #[error(
        "context too long: prompt `{prompt}` + requested `{requested}` tokens exceed the context of \
         `{context}`; shorten the prompt, ask for fewer tokens or open the model with a larger context"
    )]
    ContextTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens asked for.
        requested: usize,
        /// Tokens that there is room for.
        context: usize,
    },
    /// Weights and cache do not fit into memory.
    #[error(
        "model needs `{needed_gib:.1} GiB`, `{available_gib:.1} GiB` are available; use a smaller context, a \
         smaller quantization or a smaller model"
    )]
    TooLarge {
        /// Weights and cache.
        needed_gib: f64,
        /// Memory that can be had without swapping.
        available_gib: f64,
    },
    /// The program has no kernels for cards.
    #[error(
        "this program was built without CUDA; build it with `cargo build --release --features cuda`, or use the \
         device `auto` or `cpu`"
    )]
    NoCuda,
    /// As many layers do not fit on the card. Nothing was loaded.
    #[error(
        "`{layers}` layers need `{needed_gib:.1} GiB` on `{device}`, `{available_gib:.1} GiB` are there, room for \
         `{fitting}`; leave more of them on the CPU (`--gpu-layers`), or use a smaller context, the cache type q8_0, a \
         smaller quantization or the device `cpu`"
    )]
    CardTooSmall {
        /// The card.
        device: String,
        /// Layers that it was to have, with the head.
        layers: usize,
        /// Weights, cache, scratch, graphs and reserve.
        needed_gib: f64,
        /// Memory that is free there.
        available_gib: f64,
        /// Layers that there is room for.
        fitting: usize,
    },
    /// Weights to be quantized are quantized already: start from the unquantized file.
    #[error(
        "tensor `{tensor}` is {kind} already; quantize from the F16, BF16 or F32 model that it was made from"
    )]
    AlreadyQuantized {
        /// The first such tensor.
        tensor: String,
        /// Its type.
        kind: String,
    },
    /// A weight is NaN or infinite: the checkpoint is damaged.
    #[error("tensor `{tensor}` holds `{value}`, which no model can use; download or convert the model again")]
    NotFinite {
        /// The first such tensor.
        tensor: String,
        /// The weight.
        value: f32,
    },
    /// A weight is beyond half precision, which every quantized type builds on.
    #[error("tensor `{tensor}` holds `{value}`, beyond the 65504 of half precision; write bf16 or f32")]
    BeyondHalf {
        /// The first such tensor.
        tensor: String,
        /// The weight.
        value: f32,
    },
    /// The file to be written is there: nothing was written.
    #[error("`{}` exists; choose another name, or say that it may be replaced (`--force`)", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The disk has no room for the file to be written: nothing was written.
    #[error(
        "`{}` needs `{needed_gib:.1} GiB`, the disk has `{available_gib:.1} GiB` free; make room or choose a \
         smaller type", path.display()
    )]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// Its size.
        needed_gib: f64,
        /// What is free.
        available_gib: f64,
    },
    /// The caller asked for the end; nothing was left behind.
    #[error("stopped before the end; nothing was written")]
    Cancelled,
    /// The device failed.
    #[error(transparent)]
    Device(#[from] coder_kernels::Error),
    /// A step failed, and with it every answer that was growing.
    #[error("the device failed: {reason}; open the engine again if it stays so")]
    Failed {
        /// What the device said.
        reason: String,
    },
    /// The request's deadline passed before its vector was there.
    #[error("the deadline passed before the text was read; give it more time, or send shorter texts")]
    Deadline,
    /// As many requests as the engine takes at a time are open. Nothing was begun.
    #[error(
        "`{open}` requests are waiting or running, no more are taken; try again later, or open the engine with a longer queue"
    )]
    Busy {
        /// Requests that have not ended.
        open: usize,
    },
    /// The engine's thread has ended; open the engine again.
    #[error("the engine has stopped; open it again")]
    Stopped,
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
