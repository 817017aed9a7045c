//! Hugging Face checkpoints: `config.json` beside one `model.safetensors` or an index of several.

use std::{
    borrow::Cow,
    collections::HashMap,
    path::{Component, Path, PathBuf},
};

use coder_kernels::{BlockType, mapped::Mapped};
use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};
use serde_json::Value;

use super::{
    Matrix,
    role::{Role, Shape},
};
use crate::{
    Error, Result,
    config::object,
    gguf::{bad, shown, tensor_label},
};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The weights of a folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    shards: Vec<Shard>,
    /// The shard of each tensor.
    places: HashMap<String, usize>,
}

impl Folder {
    /// Maps and checks the checkpoint in the folder `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut folder = Self { path: path.to_owned(), shards: Vec::new(), places: HashMap::new() };
        let index = path.join(INDEX);
        if !path.join(SINGLE).exists() && index.exists() {
            folder.open_index(&index)?;
        } else {
            let shard = Shard::open(path.join(SINGLE))?;
            folder.places = shard.header.offset_keys().into_iter().map(|name| (name, 0)).collect();
            folder.shards.push(shard);
        }
        Ok(folder)
    }

    /// The files of the weights, and their index.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let shards = self.shards.iter().map(|shard| shard.path.clone());
        shards.chain([self.path.join(INDEX)])
    }

    /// Bytes of all tensors.
    pub(super) fn bytes(&self) -> usize {
        self.shards.iter().map(|s| s.header.data_len()).sum()
    }

    /// Gives back the memory that `data`, a slice of a tensor, takes until it is read again.
    pub(super) fn release(&self, data: &[u8]) {
        self.shards.iter().for_each(|shard| shard.bytes.release(data));
    }

    /// The weight of `role`, whose shape must be `shape`. Experts are put one behind the other.
    pub(super) fn matrix(&self, role: Role, shape: Shape) -> Result<Matrix<'_>> {
        let Shape { experts, rows, cols } = shape;
        let (kind, data) = self.tensor(role, 0, shape)?;
        if experts == 1 && !role.is_experts() {
            return Ok(Matrix { kind, experts, rows, cols, data: Cow::Borrowed(data) });
        }
        // Every expert is looked up before the copy is allocated, so the copy is no larger than the files.
        let kind = self.kind(role, shape)?;
        let parts: Result<Vec<&[u8]>> =
            (0..experts).map(|expert| Ok(self.tensor(role, expert, shape)?.1)).collect();
        Ok(Matrix { kind, experts, rows, cols, data: Cow::Owned(parts?.concat()) })
    }

    /// The encoding of `role`, which is that of every expert.
    pub(super) fn kind(&self, role: Role, shape: Shape) -> Result<BlockType> {
        let kind = self.tensor(role, 0, shape)?.0;
        for expert in 1..shape.experts {
            let other = self.tensor(role, expert, shape)?.0;
            if other != kind {
                let problem = format!("is {other:?}, the experts before it are {kind:?}");
                return Err(bad(&self.path, &tensor_label(&role.hub_name(expert)), problem));
            }
        }
        Ok(kind)
    }

    fn tensor(&self, role: Role, expert: usize, shape: Shape) -> Result<(BlockType, &[u8])> {
        let mut name = role.hub_name(expert);
        // Models without a head of their own, such as those for embeddings, leave out the first part of the names.
        if let Some(base) = name.strip_prefix("model.").filter(|base| self.places.contains_key(*base)) {
            name = base.to_owned();
        }
        let fail = |problem: String| bad(&self.path, &tensor_label(&name), problem);
        let shard = self.places.get(&name).and_then(|&i| self.shards.get(i));
        let Some((info, data)) = shard.and_then(|s| s.tensor(&name)) else {
            return Err(fail("is missing".into()));
        };
        let wanted = if role.is_vector() { vec![shape.cols] } else { vec![shape.rows, shape.cols] };
        if info.shape != wanted {
            return Err(fail(format!("has the shape {:?}, the model needs {wanted:?}", info.shape)));
        }
        let kind = match info.dtype {
            Dtype::F32 => BlockType::F32,
            Dtype::F16 => BlockType::F16,
            Dtype::BF16 => BlockType::BF16,
            other => {
                return Err(Error::Unsupported {
                    what: "tensor type",
                    got: format!("{other} of tensor {}", shown(&name)),
                    supported: "F32, F16, BF16".into(),
                });
            }
        };
        Ok((kind, data))
    }

    fn open_index(&mut self, index: &Path) -> Result<()> {
        let fields = object(index)?;
        let Some(map) = fields.get("weight_map").and_then(Value::as_object) else {
            return Err(bad(index, "field `weight_map`", "is missing or not an object".into()));
        };
        let mut opened = HashMap::new();
        for (tensor, file) in map {
            let fail = |problem: String| bad(index, &tensor_label(tensor), problem);
            let Some(file) = file.as_str().filter(|f| is_plain(f)) else {
                return Err(fail(format!(
                    "is in {}, not the plain name of a file",
                    shown(&file.to_string())
                )));
            };
            let shard = match opened.get(file) {
                Some(&shard) => shard,
                None => {
                    self.shards.push(Shard::open(self.path.join(file))?);
                    opened.insert(file, self.shards.len() - 1);
                    self.shards.len() - 1
                }
            };
            if self.shards[shard].header.info(tensor).is_none() {
                return Err(fail(format!("is not in `{}`", shown(file))));
            }
            self.places.insert(tensor.clone(), shard);
        }
        Ok(())
    }
}

/// One safetensors file.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    bytes: Mapped,
    header: Metadata,
    /// Where the data begins.
    data: usize,
}

impl Shard {
    /// The size of the header and the end of the data are checked here and not by the crate, whose sum of
    /// them can overflow.
    fn open(path: PathBuf) -> Result<Self> {
        let bytes = Mapped::open(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        let fail = |problem: String| bad(&path, "header", problem);
        let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
            return Err(fail(format!("needs 8 bytes, the file has {}", bytes.len())));
        };
        let length = u64::from_le_bytes(*length);
        let header = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let Some(header) = header else {
            return Err(fail(format!("claims {length} bytes, the file has {} left", rest.len())));
        };
        let data = 8 + header.len();
        let header: Metadata = serde_json::from_slice(header).map_err(|e| fail(e.to_string()))?;
        if header.data_len() != bytes.len() - data {
            let (claimed, found) = (header.data_len(), bytes.len() - data);
            return Err(fail(format!("describes {claimed} bytes of data, the file has {found}")));
        }
        Ok(Self { path, bytes, header, data })
    }

    fn tensor(&self, name: &str) -> Option<(&TensorInfo, &[u8])> {
        let info = self.header.info(name)?;
        let (from, to) = info.data_offsets;
        Some((info, self.bytes.get(self.data..)?.get(from..to)?))
    }
}

/// Whether `name` names a file in the same folder, and nothing else.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let alone = matches!((parts.next(), parts.next()), (Some(Component::Normal(n)), None) if n == name);
    alone && name.ends_with(".safetensors") && !name.contains(['/', '\\', ':'])
}
