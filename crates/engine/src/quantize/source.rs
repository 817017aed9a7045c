//! What there is to quantize: the tensors of a GGUF file or of a checkpoint's folder, and the keys for the new
//! file.

use std::borrow::Cow;

use coder_kernels::BlockType;

use super::mix::Mix;
use crate::{
    Error, Gguf, Result, Weights,
    gguf::{Header, bad, shown, tensor_label},
    weights::Role,
};

/// Keys that the new file has its own of, or that held for a set of files.
const REPLACED: [&str; 6] = [
    "general.alignment",
    "general.file_type",
    "general.quantization_version",
    "split.no",
    "split.count",
    "split.tensors.count",
];

/// A tensor of the new file.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// In GGUF.
    pub(super) name: String,
    /// Where it comes from in a folder; in a GGUF file it is found by its name.
    role: Option<Role>,
    /// Columns first.
    pub(super) shape: Vec<usize>,
    pub(super) from: BlockType,
    pub(super) to: BlockType,
}

impl Planned {
    pub(super) fn weights(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product()
    }

    /// Bytes in the input.
    pub(super) fn bytes(&self) -> u64 {
        self.weights() * self.from.layout().1 as u64
    }

    /// Bytes in the new file.
    pub(super) fn encoded_bytes(&self) -> u64 {
        let (weights, bytes) = self.to.layout();
        self.weights() / weights as u64 * bytes as u64
    }
}

/// Every tensor of the new file in the order of the input; an error if one is quantized already.
pub(super) fn plan(weights: &Weights, mix: &Mix) -> Result<Vec<Planned>> {
    match weights.gguf() {
        Some(gguf) => of_gguf(gguf, mix),
        None => {
            let tied = weights.config().tied;
            let roles = Role::all(weights.config()).filter(|&role| !(tied && role == Role::Output));
            roles.map(|role| of_role(weights, role, mix)).collect()
        }
    }
}

fn of_gguf(gguf: &Gguf, mix: &Mix) -> Result<Vec<Planned>> {
    let tensors = gguf.stored_tensors().map(|tensor| {
        let from = tensor.kind()?;
        if from.layout().0 != 1 {
            let (tensor, kind) = (shown(tensor.name()), tensor.type_name());
            return Err(Error::AlreadyQuantized { tensor, kind });
        }
        let to = mix.type_of(tensor.name(), tensor.shape()).unwrap_or(from);
        let (name, shape) = (tensor.name().to_owned(), tensor.shape().to_vec());
        Ok(Planned { name, role: None, shape, from, to })
    });
    tensors.collect()
}

fn of_role(weights: &Weights, role: Role, mix: &Mix) -> Result<Planned> {
    let (shape, from) = weights.layout(role)?;
    let (name, to) = (role.gguf_name(), mix.of_role(role, shape));
    Ok(Planned { name, role: Some(role), shape: role.gguf_shape(shape), from, to })
}

/// The encoded weights of a planned tensor.
pub(super) fn data<'a>(weights: &'a Weights, tensor: &Planned) -> Result<Cow<'a, [u8]>> {
    if let Some(role) = tensor.role {
        return Ok(weights.matrix(role)?.into_data());
    }
    let found = weights.gguf().and_then(|gguf| gguf.tensor(&tensor.name));
    // Both can only differ from the plan if the file was changed while it is mapped.
    match found.map(|t| t.data()).filter(|data| data.len() as u64 == tensor.bytes()) {
        Some(data) => Ok(Cow::Borrowed(data)),
        None => Err(bad(weights.path(), &tensor_label(&tensor.name), "changed while it was read".into())),
    }
}

/// The keys of the new file but for those that say how it is quantized.
pub(super) fn keys(weights: &Weights) -> Result<Header> {
    let mut header = Header::new();
    match weights.gguf() {
        Some(gguf) => {
            let kept = gguf.key_records().filter(|(key, _)| !REPLACED.contains(key));
            kept.for_each(|(_, record)| header.record(record));
        }
        None => super::folder::keys(weights, &mut header)?,
    }
    Ok(header)
}
