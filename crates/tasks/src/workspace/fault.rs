//! Where tests make a run die. Every effect on a disk asks here first; outside of tests the answer is yes.

#[cfg(not(test))]
#[inline(always)]
pub(super) fn step() -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) use fuse::{acts_after, dies_after, lives, step};

#[cfg(test)]
mod fuse {
    use std::cell::Cell;

    thread_local! {
        /// Effects that are left, and how many there were.
        static LEFT: Cell<(u64, u64)> = const { Cell::new((u64::MAX, 0)) };
    }

    type Act = Box<dyn FnOnce()>;

    thread_local! {
        /// What another program does, and the effect before which it does it.
        static ACT: std::cell::RefCell<Option<(u64, Act)>> = const { std::cell::RefCell::new(None) };
    }

    /// One effect more, or none ever again, as after `kill -9`: whoever cleans up is dead too.
    pub(crate) fn step() -> std::io::Result<()> {
        let (left, done) = LEFT.get();
        if left == 0 {
            return Err(std::io::Error::other("the test's run is dead"));
        }
        LEFT.set((left - 1, done + 1));
        if let Some((_, act)) = ACT.with_borrow_mut(|act| act.take_if(|(at, _)| *at == done)) {
            act();
        }
        Ok(())
    }

    /// This thread's run dies after so many effects.
    pub(crate) fn dies_after(steps: u64) {
        LEFT.set((steps, 0));
    }

    /// Another program acts between this thread's effects, after so many of them.
    pub(crate) fn acts_after(steps: u64, act: impl FnOnce() + 'static) {
        LEFT.set((u64::MAX, 0));
        ACT.set(Some((steps, Box::new(act))));
    }

    /// A new run begins; how many effects the one before had.
    pub(crate) fn lives() -> u64 {
        let (_, done) = LEFT.get();
        LEFT.set((u64::MAX, 0));
        ACT.set(None);
        done
    }
}
