//! Where a model runs: which device was asked for, what a card has room for, and what is said about it.

use crate::draft;
use crate::fit::{self, Bytes, Memory, Plan, Room, Tensors};
use crate::load::{self, Options, gib};
use crate::memory::HostMemory;
use crate::model::{Limits, Model, Runner};
use crate::reference::Reference;
use crate::weights::Weights;
use crate::{Error, Result};
use coder_kernels::Backend;
use coder_kernels::cuda::Cuda;

/// Where the arithmetic happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// A card if there is one and it has room for the head and one layer at least, else the processor.
    #[default]
    Auto,
    /// The processor, with this project's own operations.
    Cpu,
    /// An NVIDIA card; layers that do not fit stay on the processor.
    Cuda,
    /// The processor through candle, in f32: slow and exact, to compare with.
    Reference,
}

impl Device {
    const ALL: [(&str, Device); 4] = [
        ("auto", Device::Auto),
        ("cpu", Device::Cpu),
        ("cuda", Device::Cuda),
        ("reference", Device::Reference),
    ];
}

impl std::str::FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, device)| *device);
        found.ok_or_else(|| Error::Unsupported {
            what: "device",
            got: name.into(),
            supported: Self::ALL.map(|(n, _)| n).join(", "),
        })
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = Self::ALL.iter().find(|(_, device)| device == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// What of a model is on a card.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct OnCard {
    /// The card's name.
    pub name: String,
    /// The last layers of the model, and its head; the others are on the CPU.
    pub layers: usize,
    /// Bytes that the plan allowed, with graphs and reserve.
    pub planned_bytes: u64,
    /// Bytes that were allocated.
    pub used_bytes: u64,
    /// Of those that the plan allowed, what another model on the card cannot have.
    #[serde(skip)]
    pub(crate) own_bytes: u64,
}

/// A model on its device.
pub(crate) struct Opened {
    pub(crate) runner: Box<dyn Runner>,
    /// What it may be asked for.
    pub(crate) limits: Limits,
    /// For people.
    pub(crate) device: String,
    pub(crate) card: Option<OnCard>,
    /// What the user should know about the choice.
    pub(crate) notice: Option<String>,
    /// Bytes per second that the memory can deliver which all weights are in, if a card tells.
    pub(crate) memory_bytes_per_s: Option<f64>,
}

/// Chooses a device, checks that everything fits, and loads.
pub(crate) fn open(
    options: &Options,
    weights: &Weights,
    room: &Room,
    progress: &mut dyn FnMut(u64),
) -> Result<Opened> {
    let notice = match options.device {
        Device::Cpu | Device::Reference => {
            refuse_card_options(options)?;
            None
        }
        Device::Cuda => {
            return load_on(Share::of(options, weights, room)?, options, weights, progress);
        }
        Device::Auto if options.gpu_layers == Some(0) => None,
        Device::Auto => match Share::of(options, weights, room) {
            Ok(share) => return load_on(share, options, weights, progress),
            // The number was asked for, and there is another that works.
            Err(error @ Error::CardTooSmall { .. }) if options.gpu_layers.is_some() => return Err(error),
            Err(error) => why_not(&error, options),
        },
    };
    let limits = room.limits();
    let mut needed = host_bytes(options, weights, limits)?;
    if let Some((own, weights, room)) = draft(options)? {
        needed = needed.saturating_add(host_bytes(&own, &weights, room.limits())?);
    }
    check_host(needed)?;
    let (runner, device) = if options.device == Device::Reference {
        whole(Reference::new(), weights, limits, progress)?
    } else {
        whole(options.open_cpu(), weights, limits, progress)?
    };
    Ok(Opened { runner, limits, device, card: None, notice, memory_bytes_per_s: None })
}

fn whole<B: Backend + Send + 'static>(
    backend: B,
    weights: &Weights,
    limits: Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<(Box<dyn Runner>, String)> {
    let name = backend.name();
    Ok((Box::new(Model::whole(backend, weights, limits, progress)?), name))
}

/// What the processor's memory must have room for when it computes the whole model.
fn host_bytes(options: &Options, weights: &Weights, limits: Limits) -> Result<u64> {
    let config = weights.config();
    let reference = options.device == Device::Reference;
    let weight_bytes =
        if reference { load::parameters(config).saturating_mul(4) } else { weights.bytes() as u64 };
    let row = 2 * (limits.kv.row_bytes(config.heads) * config.layers) as u64;
    let scratch = fit::scratch_on_host(config, limits, true, options.parallel)?;
    Ok(weight_bytes.saturating_add(row.saturating_mul(limits.slots as u64)).saturating_add(scratch))
}

/// The draft model that will be opened after the model itself, if there is one.
fn draft(options: &Options) -> Result<Option<(Options, Weights, Room)>> {
    let Some(own) = draft::options(options)? else { return Ok(None) };
    let weights = own.source.weights()?;
    let room = draft::room(&own, weights.config())?;
    Ok(Some((own, weights, room)))
}

fn refuse_card_options(options: &Options) -> Result<()> {
    let card = [("gpu_layers", options.gpu_layers.is_some_and(|n| n > 0)), ("vram", options.vram.is_some())];
    match card.into_iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((field, _)) => {
            let problem =
                format!("is for a card, and the device is `{}`; use `auto` or `cuda`", options.device);
            Err(Error::Request { field, problem })
        }
    }
}

/// What to say of a card that is not used. Nothing where there is none, unless something was asked of it.
fn why_not(error: &Error, options: &Options) -> Option<String> {
    use coder_kernels::Error::{NoDevice, NoDriver};
    let none = matches!(error, Error::NoCuda | Error::Device(NoDriver | NoDevice { .. }));
    let asked = options.gpu_layers.is_some() || options.vram.is_some();
    (asked || !none).then(|| format!("computing on the CPU: {error}"))
}

/// A card that is open, and how much of the model it gets.
struct Share {
    cuda: Cuda,
    limits: Limits,
    memory: Memory,
    plan: Plan,
    bytes: Bytes,
}

impl Share {
    fn of(options: &Options, weights: &Weights, room: &Room) -> Result<Self> {
        if options.gpu_layers == Some(0) {
            let problem = "is `0`, which leaves nothing to the card; use the device `cpu`".into();
            return Err(Error::Request { field: "gpu_layers", problem });
        }
        let library = options.library.ok_or(Error::NoCuda)?;
        // Looked at before it is opened for work, so that nothing is allocated for a model that does not fit.
        let card = library.card(0)?;
        let mut memory = Memory::free(card.free_bytes, options.vram);
        let plan = Plan::new(Tensors::Of(weights), room)?;
        if let Some((_, weights, room)) = draft(options)? {
            // Guesses are worth making only where they are made fast: the draft model has its place before the first
            // layers have theirs, unless nothing would be left.
            let its = Plan::new(Tensors::Of(&weights), &room)?;
            let none = Memory::none();
            let rest = memory.beside(none.taken_by(&its.bytes(its.layers(), none)));
            memory = if plan.most_layers(rest) > 0 { rest } else { memory };
        }
        let fitting = plan.most_layers(memory);
        let layers = options.gpu_layers.unwrap_or(fitting.max(1)).min(plan.layers());
        let bytes = plan.bytes(layers, memory);
        if layers > fitting {
            return Err(Error::CardTooSmall {
                device: card.name,
                layers,
                needed_gib: gib(bytes.card),
                available_gib: gib(memory.bytes()),
                fitting,
            });
        }
        let limits = room.limits_of(bytes.rows);
        let cuda = Cuda::open(library, &limits.cuda(room.graphs, Some(memory.room())))?;
        Ok(Self { cuda, limits, memory, plan, bytes })
    }

    /// Layers that stay on the CPU.
    fn cut(&self) -> usize {
        self.plan.layers() - self.bytes.layers
    }

    /// What is worth saying: where the others are, and why.
    fn notice(&self, options: &Options) -> Option<String> {
        let (all, name) = (self.plan.layers(), &self.cuda.card().name);
        let beginning = format!(
            "{} of {all} layers are on `{name}`, the first {} on the CPU",
            self.bytes.layers,
            self.cut()
        );
        match (self.cut(), options.gpu_layers) {
            (0, _) => None,
            (_, Some(_)) => Some(format!("{beginning}, as was asked for")),
            (_, None) => Some(format!(
                "{beginning}: all need `{:.1} GiB`, `{:.1} GiB` are there; a smaller context or the cache type q8_0 \
                 needs less",
                gib(self.plan.bytes(all, self.memory).card),
                gib(self.memory.bytes())
            )),
        }
    }
}

fn load_on(
    share: Share,
    options: &Options,
    weights: &Weights,
    progress: &mut dyn FnMut(u64),
) -> Result<Opened> {
    let (notice, cut) = (share.notice(options), share.cut());
    let Share { cuda, limits, memory, bytes, .. } = share;
    let scratch = fit::scratch_on_host(weights.config(), limits, cut > 0, options.parallel)?;
    check_host(bytes.host_weights.saturating_add(bytes.host_cache).saturating_add(scratch))?;
    let card = cuda.card().clone();
    let on_card = |model: &Cuda| OnCard {
        name: card.name.clone(),
        layers: bytes.layers,
        planned_bytes: bytes.card,
        used_bytes: model.used_bytes(),
        own_bytes: memory.taken_by(&bytes),
    };
    if cut == 0 {
        let device = cuda.name();
        let model = Model::whole(cuda, weights, limits, progress)?;
        let on_card = on_card(model.backend());
        let memory_bytes_per_s = card.memory_bytes_per_s;
        return Ok(Opened {
            runner: Box::new(model),
            limits,
            device,
            card: Some(on_card),
            notice,
            memory_bytes_per_s,
        });
    }
    let cpu = options.open_cpu();
    let device = format!("{} for {cut} layers, {} for {}", cpu.name(), cuda.name(), bytes.layers);
    let model = Model::split((cpu, cuda), cut, weights, limits, progress)?;
    let on_card = on_card(model.backend());
    Ok(Opened {
        runner: Box::new(model),
        limits,
        device,
        card: Some(on_card),
        notice,
        memory_bytes_per_s: None,
    })
}

/// Refuses what cannot fit into the host's memory, before anything is allocated.
fn check_host(needed: u64) -> Result<()> {
    let Some(available) = HostMemory::detect().map(|memory| memory.available_bytes) else { return Ok(()) };
    if needed > available {
        return Err(Error::TooLarge { needed_gib: gib(needed), available_gib: gib(available) });
    }
    Ok(())
}
