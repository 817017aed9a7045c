//! Every operation of the processor, on every instruction set of this machine: against plain f64
//! arithmetic, and bit for bit against itself with other rows in the batch.

mod attention;
mod dense;
mod experts;
mod refusals;
mod rig;
