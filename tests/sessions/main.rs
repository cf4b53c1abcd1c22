//! `cloakroom sessions`: the real program on real stores, and a copy step by step.

mod copying;
mod many;
mod one;
mod place;
mod program;
