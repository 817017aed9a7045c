//! Every operation of every device: the processor with each instruction set of this machine, the kernels for cards on a
//! card if there is one, else on the emulator. Against plain f64 arithmetic, and bit for bit against itself with other
//! rows in the batch.

mod attention;
mod choose;
mod dense;
mod experts;
mod fused;
mod refusals;
mod rig;
mod small;
