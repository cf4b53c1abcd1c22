//! How long each step takes: `cargo bench --bench micro`. For figures that compare from day to day: `counted/`.

mod steps;
mod workers;

use divan::Bencher;

use self::steps::Step;

fn main() {
    divan::main();
}

#[divan::bench(args = steps::all())]
fn step(bencher: Bencher<'_, '_>, step: &Step) {
    bencher.with_inputs(|| (step.prepare)(1)).bench_values(|run| run());
}
