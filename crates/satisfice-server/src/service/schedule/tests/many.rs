//! Twenty models on 64 cores.

use super::{Ask, Machine};
use satisfice_planner::simulate::Random;

const CORES: usize = 64;

/// Every third is light; every fourth does not share cores.
fn models() -> Vec<(bool, Ask)> {
    let model = |at: usize| {
        let scale = [0.001, 0.08, 1.5][at % 3] * (1.0 + at as f64 / 10.0);
        let shares = at % 4 != 3;
        let ask = Ask {
            serial: if shares { 0.05 * scale } else { 0.2 * scale },
            parallel: if shares { scale } else { 0.0 },
            bytes: 1 << (at % 20),
            deadline: None,
        };
        (shares, ask)
    };
    (0..20).map(model).collect()
}

/// Traffic of `load` times what the cores can do, for some seconds: how many requests with a deadline there were, how
/// many of them were kept, and how much longer than alone the short ones took at most.
fn traffic(load: f64, seconds: f64) -> (usize, usize, f64) {
    let models = models();
    let shares: Vec<bool> = models.iter().map(|model| model.0).collect();
    let mut machine = Machine::new(CORES, &shares);
    for (at, &(_, ask)) in models.iter().enumerate() {
        machine.learn(at, ask);
    }
    let (begun, from) = (machine.now, machine.fates.len());
    let mut random = Random::new(7);
    let per_model = load * CORES as f64 / models.len() as f64;
    let mut arrivals: Vec<(f64, usize)> = Vec::new();
    for (at, (_, ask)) in models.iter().enumerate() {
        // Light models would be all there is to count.
        let rate = (per_model / ask.time().seconds(1)).min(400.0);
        let mut time = 0.0;
        while time < seconds {
            time -= (1.0 - random.unit()).ln() / rate;
            arrivals.push((time, at));
        }
    }
    arrivals.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (time, at) in arrivals {
        machine.advance(begun + time);
        let ask = models[at].1;
        let due = ask.time().seconds(16) * (1.5 + 3.0 * random.unit()) + 0.005;
        machine.send(
            at,
            if random.unit() < 0.7 {
                ask.due(due)
            } else {
                ask
            },
        );
    }
    machine.advance(machine.now + 100.0);
    let fates = &machine.fates[from..];
    assert!(
        fates.iter().all(|fate| fate.ended.is_some()),
        "everybody hears something"
    );
    let due = fates.iter().filter(|fate| fate.ask.deadline.is_some());
    let short = fates
        .iter()
        .filter(|fate| fate.ask.time().seconds(1) < 0.002 && fate.error.is_none());
    let slower = short.map(|fate| fate.took() - fate.ask.time().seconds(1));
    (
        due.clone().count(),
        due.filter(|fate| fate.is_kept()).count(),
        slower.fold(0.0, f64::max),
    )
}

#[test]
fn cores_are_shared_by_twenty_models() {
    for (load, least) in [(0.2, 0.97), (0.7, 0.9), (2.0, 0.5)] {
        let (due, kept, slower) = traffic(load, 3.0);
        let share = kept as f64 / due as f64;
        eprintln!("{load}: {kept} of {due} ({share:.3}), short ones at most {slower:.4} s later");
        assert!(share >= least, "{load}: {kept} of {due}");
        assert!(slower < 0.05, "{load}: {slower}");
    }
}
