//! Seeded sweeps. `OXHERD_SIM_SEEDS=20000` widens them, `OXHERD_SIM_SEED=0x1f` replays one seed with its trace.

use std::panic::{AssertUnwindSafe, catch_unwind};

use oxherd_core::{AppId, Request, Scaling, Sockets, Span};
use oxherd_sim::{Mode, Rng, World, wish};

const SEEDS: u64 = 1500;

fn seeds(share: u64) -> Vec<u64> {
    if let Some(seed) = replayed() {
        return vec![seed];
    }
    let wide = std::env::var("OXHERD_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    (0..wide.unwrap_or(SEEDS) / share).collect()
}

fn replayed() -> Option<u64> {
    let text = std::env::var("OXHERD_SIM_SEED").ok()?;
    let digits = text.trim_start_matches("0x");
    Some(u64::from_str_radix(digits, 16).expect("OXHERD_SIM_SEED is a hexadecimal number"))
}

/// Runs `act` for each seed; what it complains of is told with the seed.
fn sweep(share: u64, act: impl Fn(u64, bool)) {
    for seed in seeds(share) {
        if let Err(complaint) = catch_unwind(AssertUnwindSafe(|| act(seed, replayed().is_some()))) {
            let text = complaint.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| complaint.downcast_ref::<&str>().copied()).unwrap_or("no words");
            panic!("seed {seed:#x}: {text}\nreplay with OXHERD_SIM_SEED={seed:#x}");
        }
    }
}

#[test]
fn faults() {
    sweep(1, |seed, trace| World::new(seed, Mode::Faulty, trace).run());
}

#[test]
fn crashes() {
    sweep(3, |seed, trace| World::new(seed, Mode::Crashing, trace).run());
}

/// However often its primary dies, a healthy herd goes on, and nobody is blamed.
#[test]
fn upgrades() {
    sweep(6, |seed, trace| World::new(seed, Mode::Upgrading, trace).run());
}

#[test]
fn health() {
    sweep(6, |seed, trace| World::new(seed, Mode::Healthy, trace).run());
}

/// A primary that hands over to another at any step, with nothing lost, makes no difference to the workers.
#[test]
fn handovers_change_nothing() {
    sweep(6, |seed, trace| {
        let mut plain = World::new(seed, Mode::Paired, trace);
        plain.run();
        let mut reborn = World::new(seed, Mode::Paired, trace);
        reborn.reborn_percent = 10;
        reborn.run();
        assert_eq!(plain.deeds, reborn.deeds);
    });
}

/// With healthy workers a reload never takes a worker away before another has taken its place, nor a slot before
/// all others are replaced; and it ends with as many as it was to bring.
#[test]
fn a_reload_keeps_the_capacity() {
    sweep(12, |seed, trace| {
        let mut rng = Rng::new(seed);
        let mut world = World::new(seed, Mode::Healthy, trace);
        let kind = rng.pick(&["speaks", "lent"]);
        let mut spec = wish::spec(&mut rng, Mode::Healthy, format!("{kind}-{seed}"));
        if spec.sockets == Sockets::None {
            // Of those, every worker ends before the next starts.
            spec.sockets = Sockets::Channel;
        }
        // Here the number is as it is wished.
        spec.scaling = None;
        world.ask(Request::Start { spec: Box::new(spec.clone()) });
        world.converge();
        let mut wanted = vec![spec.instances as usize];
        for _ in 0..4 {
            let changes = rng.chance(60);
            spec.instances = if changes { 1 + rng.below(5) as u32 } else { spec.instances };
            wanted.push(spec.instances as usize);
            let new = changes.then(|| Box::new(spec.clone()));
            world.ask(Request::Reload { app: AppId(0), spec: new });
            for _ in 0..rng.below(60) {
                world.live_a_step();
                let serving = world.os.admitted.len();
                let (least, most) = (wanted.iter().min(), wanted.iter().max());
                let fits = least <= Some(&serving) && Some(&serving) <= most;
                assert!(fits, "{serving} serve during reloads to {wanted:?}");
                if world.is_settled() {
                    break;
                }
            }
            if world.is_settled() {
                wanted.drain(..wanted.len() - 1);
            }
        }
        world.converge();
        assert_eq!(
            world.os.admitted.len(),
            spec.instances as usize,
            "the last reload brought another number"
        );
    });
}

/// The number of slots follows a load that lasts, to its bounds and not beyond.
#[test]
fn a_load_that_lasts_moves_the_number_to_its_bounds() {
    sweep(24, |seed, trace| {
        let mut rng = Rng::new(seed);
        let mut world = World::new(seed, Mode::Healthy, trace);
        let kind = rng.pick(&["speaks", "lent", "silent"]);
        let mut spec = wish::spec(&mut rng, Mode::Healthy, format!("{kind}-{seed}"));
        let Scaling { min, max } = *spec.scaling.get_or_insert(Scaling { min: 1, max: 3 });
        (spec.max_lifetime, spec.max_requests) = (None, None);
        world.ask(Request::Start { spec: Box::new(spec) });
        for (load, bound) in [(1000, max), (0, min), (1000, max)] {
            world.load = Some(load);
            let seconds = if load == 0 { 70 * u64::from(max) } else { 60 };
            world.live_for(Span::from_secs(seconds));
            assert_eq!(world.slots(), bound, "slots under a load of {load}");
        }
    });
}
