//! What is measured: the steps of a request's road, each made ready so that running it does nothing else. A new step is
//! one line in a table.

mod proxy;
mod request;
pub mod sample;
mod session;

use std::any::Any;
use std::fmt;
use std::hint::black_box;

/// A step under the name by which its figures are known.
pub struct Step {
    pub name: &'static str,
    /// Makes ready to take the step so many times.
    pub prepare: fn(usize) -> Run,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// Gives back what is left, to be dropped where it is not measured.
pub type Run = Box<dyn FnOnce() -> Box<dyn Any>>;

/// Every step, in the order in which figures are shown.
pub fn all() -> impl Iterator<Item = &'static Step> {
    proxy::STEPS.iter().chain(session::STEPS).chain(request::STEPS)
}

/// A run of `times` steps, each on an input of its own. What a step makes is dropped in it, as it is on the road.
fn each<I: 'static, O>(times: usize, mut input: impl FnMut() -> I, step: impl Fn(I) -> O + 'static) -> Run {
    let inputs: Vec<I> = (0..times).map(|_| input()).collect();
    Box::new(move || {
        for input in inputs {
            black_box(step(black_box(input)));
        }
        Box::new(())
    })
}
