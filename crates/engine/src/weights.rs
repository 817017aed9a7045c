//! The weights of a model by what they are for, wherever they come from: a GGUF file, or a folder with
//! `config.json` and safetensors.
//!
//! This module owns names and shapes. It decodes nothing but vectors; matrices stay in the file's encoding.

mod folder;
mod role;

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use coder_kernels::{BlockType, QuantRows};
use half::{bf16, f16};

pub use role::Role;

use crate::{
    Error, Result,
    config::Config,
    gguf::{Gguf, bad, tensor_label},
};
use folder::Folder;
pub(crate) use role::Shape;

/// An open model: configuration and weights.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    config: Config,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Gguf(Gguf),
    Folder(Folder),
}

/// A weight `[experts, rows, cols]`, borrowed from the file where it lies there in one piece.
#[derive(Clone, Debug)]
pub struct Matrix<'a> {
    kind: BlockType,
    experts: usize,
    rows: usize,
    cols: usize,
    data: Cow<'a, [u8]>,
}

impl Weights {
    /// Opens the model at `path`: a `.gguf` file (or any part of a split one), or a folder with `config.json`
    /// and `model.safetensors` or `model.safetensors.index.json`.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let config = Config::from_json(&path.join("config.json"))?;
            let source = Source::Folder(Folder::open(path)?);
            return Ok(Self { path: path.to_owned(), config, source });
        }
        if path.extension().is_some_and(|e| e == "safetensors") {
            let problem = "is part of a checkpoint: open the folder that it is in";
            return Err(bad(path, "the file", problem.into()));
        }
        Self::from_gguf(Gguf::open(path)?)
    }

    /// The model in an open GGUF file.
    pub fn from_gguf(gguf: Gguf) -> Result<Self> {
        let config = Config::from_gguf(&gguf)?;
        Ok(Self { path: gguf.path().to_owned(), config, source: Source::Gguf(gguf) })
    }

    /// The dimensions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The GGUF file, which has tokenizer and chat template too, if that is what was opened.
    pub fn gguf(&self) -> Option<&Gguf> {
        match &self.source {
            Source::Gguf(gguf) => Some(gguf),
            Source::Folder(_) => None,
        }
    }

    /// The file, or the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that the weights are read from, and what a folder has beside them that says what they are.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        match &self.source {
            Source::Gguf(gguf) => gguf.files().map(Path::to_owned).collect(),
            Source::Folder(folder) => {
                let beside = crate::tokenizer::FILES.iter().chain(&["config.json"]);
                folder.files().chain(beside.map(|name| self.path.join(name))).collect()
            }
        }
    }

    /// Bytes of all weights.
    pub fn bytes(&self) -> usize {
        match &self.source {
            Source::Gguf(gguf) => gguf.data_bytes(),
            Source::Folder(folder) => folder.bytes(),
        }
    }

    /// The weight of `role`. An error names the tensor if it is missing, of another shape than the
    /// configuration says, or of a type that is not supported.
    pub fn matrix(&self, role: Role) -> Result<Matrix<'_>> {
        let role = role.stored(&self.config);
        let Some(shape) = role.shape(&self.config) else {
            let name = tensor_label(&role.gguf_name());
            return Err(bad(&self.path, &name, "is for experts, which this model does not have".into()));
        };
        match &self.source {
            Source::Folder(folder) => folder.matrix(role, shape),
            Source::Gguf(gguf) => {
                let Shape { experts, rows, cols } = shape;
                let found = gguf.rows(&role.gguf_name(), &[cols, rows, experts])?;
                Ok(Matrix { kind: found.kind(), experts, rows, cols, data: Cow::Borrowed(found.data()) })
            }
        }
    }

    /// Gives back the memory that the file's pages of `matrix` take, until they are read again.
    pub fn release(&self, matrix: &Matrix<'_>) {
        let Cow::Borrowed(data) = matrix.data else { return };
        match &self.source {
            Source::Gguf(gguf) => gguf.release(data),
            Source::Folder(folder) => folder.release(data),
        }
    }

    /// Shape and encoding of `role`, with [`matrix`](Self::matrix)'s checks and without its copy of experts.
    pub(crate) fn layout(&self, role: Role) -> Result<(Shape, BlockType)> {
        let role = role.stored(&self.config);
        if let (Source::Folder(folder), Some(shape)) = (&self.source, role.shape(&self.config)) {
            return Ok((shape, folder.kind(role, shape)?));
        }
        let Matrix { kind, experts, rows, cols, .. } = self.matrix(role)?;
        Ok((Shape { experts, rows, cols }, kind))
    }

    /// The norm's weight or bias of `role`, decoded from F32, F16 or BF16.
    ///
    /// # Panics
    ///
    /// If `role` is not [a vector](Role::is_vector), which is an error of the caller and not of the file.
    pub fn vector(&self, role: Role) -> Result<Vec<f32>> {
        assert!(role.is_vector(), "{role:?} is a matrix");
        let found = self.matrix(role)?;
        let data = &found.data;
        match found.kind {
            BlockType::F32 => Ok(data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()),
            BlockType::F16 => Ok(data.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).into()).collect()),
            BlockType::BF16 => {
                Ok(data.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).into()).collect())
            }
            other => Err(Error::Unsupported {
                what: "type of a norm or bias",
                got: format!("{other:?}"),
                supported: "F32, F16, BF16".into(),
            }),
        }
    }
}

impl<'a> Matrix<'a> {
    /// All experts' rows, one behind the other: `experts · rows` rows of `cols` weights.
    pub fn rows(&self) -> Result<QuantRows<'_>> {
        Ok(QuantRows::new(self.kind, self.experts * self.rows, self.cols, &self.data)?)
    }

    /// Number of experts, 1 for a dense matrix.
    pub fn experts(&self) -> usize {
        self.experts
    }

    /// Its encoding.
    pub fn kind(&self) -> BlockType {
        self.kind
    }

    /// The encoded weights, expert after expert.
    pub(crate) fn into_data(self) -> Cow<'a, [u8]> {
        self.data
    }
}
