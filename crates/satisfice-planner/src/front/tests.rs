//! Fronts against brute force and an integer programme.

use super::{FrontTable, Mix};
use crate::{Error, StrategyProfile};
use good_lp::{Expression, Solution, SolverModel, constraint, microlp, variable, variables};
use proptest::prelude::*;

/// Accuracy in thousandths, batch times in microseconds.
type Raw = (u32, Vec<u32>);

fn profiles(raw: &[Raw]) -> Vec<StrategyProfile> {
    raw.iter()
        .map(|(accuracy, times)| {
            let accuracy = f64::from(*accuracy) / 1e3;
            let seconds = times.iter().map(|&us| f64::from(us) / 1e6).collect();
            StrategyProfile::new(accuracy, accuracy, seconds).unwrap()
        })
        .collect()
}

fn table(raw: &[Raw], inputs_max: usize) -> FrontTable {
    let all: Vec<usize> = (0..raw.len()).collect();
    FrontTable::new(&profiles(raw), &all, inputs_max).unwrap()
}

/// Least time of `inputs` inputs by one strategy, over all ways to cut them.
fn alone(times: &[u32], inputs: usize) -> u32 {
    (1..=times.len().min(inputs))
        .map(|batch| times[batch - 1] + alone(times, inputs - batch))
        .min()
        .unwrap_or(0)
}

/// (time, summed accuracy) of every way to divide `inputs` among the strategies.
fn divisions(raw: &[Raw], inputs: usize) -> Vec<(u32, u32)> {
    let Some(((accuracy, times), others)) = raw.split_first() else {
        return if inputs == 0 {
            vec![(0, 0)]
        } else {
            Vec::new()
        };
    };
    (0..=inputs)
        .flat_map(|mine| {
            let (time, sum) = (alone(times, mine), accuracy * mine as u32);
            divisions(others, inputs - mine)
                .into_iter()
                .map(move |(t, a)| (t + time, a + sum))
        })
        .collect()
}

fn front(mut points: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    points.sort_by_key(|&(time, sum)| (time, u32::MAX - sum));
    let mut best = None;
    points.retain(|&(_, sum)| {
        let better = best.is_none_or(|best| sum > best);
        best = best.max(Some(sum));
        better
    });
    points
}

fn raw(strategies: usize, batch_max: usize) -> impl Strategy<Value = Vec<Raw>> {
    let times = prop::collection::vec(1_u32..200, 1..=batch_max);
    prop::collection::vec((0_u32..=1000, times), 1..=strategies)
}

/// Batch times that grow with the batch, as measured ones do.
fn affine(strategies: usize, batch_max: usize) -> impl Strategy<Value = Vec<Raw>> {
    let one = (500_u32..1000, 10_u32..500, 10_u32..500);
    let profile = one.prop_map(move |(accuracy, fixed, each)| {
        let times = (1..=batch_max as u32).map(|b| fixed + each * b).collect();
        (accuracy, times)
    });
    prop::collection::vec(profile, 2..=strategies)
}

/// The least microseconds of any batches for `inputs` inputs that reach `floor` thousandths, summed.
fn milp(raw: &[Raw], inputs: usize, floor: u32) -> f64 {
    let mut problem = variables!();
    let mut batches = Vec::new();
    for (accuracy, times) in raw {
        for (at, &time) in times.iter().enumerate() {
            let most = (inputs / (at + 1)) as f64;
            let count = problem.add(variable().integer().min(0).max(most));
            batches.push((count, at + 1, f64::from(*accuracy), f64::from(time)));
        }
    }
    let sum = |of: &dyn Fn(usize, f64, f64) -> f64| -> Expression {
        batches
            .iter()
            .map(|&(count, size, accuracy, time)| count * of(size, accuracy, time))
            .sum()
    };
    let total = sum(&|_, _, time| time);
    let solution = problem
        .minimise(total.clone())
        .using(microlp)
        .with(constraint!(sum(&|size, _, _| size as f64) == inputs as f64))
        .with(constraint!(
            sum(&|size, accuracy, _| size as f64 * accuracy) >= f64::from(floor)
        ))
        .solve()
        .unwrap();
    solution.eval(total)
}

/// Microseconds and summed thousandths of what a mix says it does, counted from its batches.
fn recount(raw: &[Raw], mix: &Mix) -> (u32, u32) {
    mix.runs.iter().fold((0, 0), |(time, sum), run| {
        let (accuracy, times) = &raw[run.strategy];
        let count = run.times as u32;
        (
            time + times[run.batch - 1] * count,
            sum + accuracy * run.batch as u32 * count,
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn fronts_equal_brute_force(raw in raw(4, 4), inputs in 1_usize..9) {
        let table = table(&raw, inputs);
        let found = table.front(inputs).unwrap();
        prop_assert!(found.gap() == 0.0);
        let expected = front(divisions(&raw, inputs));
        let points: Vec<(u32, u32)> = found.points().map(|point| {
            let mix = found.mix(point);
            assert_eq!(mix.inputs(), inputs);
            assert!((mix.seconds - point.seconds).abs() < 1e-12);
            assert!((mix.accuracy - point.accuracy).abs() < 1e-9);
            recount(&raw, &mix)
        }).collect();
        prop_assert_eq!(points, expected);
    }

    #[test]
    fn lookups_find_what_a_scan_finds(
        raw in raw(3, 3), inputs in 1_usize..12, floor in 0.0..1.0_f64, seconds in 0.0..2e-3_f64
    ) {
        let table = table(&raw, inputs);
        let front = table.front(inputs).unwrap();
        let floor = (floor * 1e6).round() / 1e6;
        let cheapest = front.points().find(|point| point.accuracy >= floor - 1e-12);
        prop_assert_eq!(front.cheapest(floor), cheapest);
        let best = front.points().filter(|point| point.seconds <= seconds).last();
        prop_assert_eq!(front.most_accurate(seconds), best);
    }

    #[test]
    fn thinned_fronts_keep_their_word(raw in affine(4, 3), inputs in 4_usize..20) {
        let all: Vec<usize> = (0..raw.len()).collect();
        let exact = table(&raw, inputs);
        let thin = FrontTable::thinned(&profiles(&raw), &all, inputs, 5).unwrap();
        let (exact, thin) = (exact.front(inputs).unwrap(), thin.front(inputs).unwrap());
        prop_assert!(thin.len() <= 7);
        let top = |front: super::Front<'_>| front.points().last().unwrap();
        prop_assert!((top(exact).accuracy - top(thin).accuracy).abs() < 1e-12);
        prop_assert!((top(exact).seconds - top(thin).seconds).abs() < 1e-12);
        for point in exact.points() {
            // A mean counts to the nearest millionth.
            let near = thin.cheapest((point.accuracy - thin.gap() - 1e-6).max(0.0)).unwrap();
            prop_assert!(near.seconds <= point.seconds + 1e-12);
        }
    }

    #[test]
    fn inputs_are_assigned_once_each(raw in raw(4, 4), inputs in 1_usize..40, seed: u64) {
        let mix = table(&raw, inputs).cheapest(inputs, 0.0).unwrap().unwrap();
        let parts = mix.assign(seed);
        let mut next = 0;
        for (_, range) in &parts {
            prop_assert_eq!(range.start, next);
            next = range.end;
        }
        prop_assert_eq!(next, inputs);
        for strategy in 0..raw.len() {
            let of = parts.iter().filter(|(s, _)| *s == strategy);
            prop_assert_eq!(of.map(|(_, range)| range.len()).sum::<usize>(), mix.inputs_by(strategy));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn cheapest_equals_an_integer_programme(raw in affine(5, 6), inputs in 20_usize..60) {
        let table = table(&raw, inputs);
        let best = raw.iter().map(|(accuracy, _)| *accuracy).max().unwrap();
        let worst = raw.iter().map(|(accuracy, _)| *accuracy).min().unwrap();
        for quarter in 0..=4 {
            let floor = worst + (best - worst) * quarter / 4;
            let mix = table.cheapest(inputs, f64::from(floor) / 1e3).unwrap().unwrap();
            let (time, sum) = recount(&raw, &mix);
            prop_assert!(sum >= floor * inputs as u32);
            let optimum = milp(&raw, inputs, floor * inputs as u32);
            prop_assert!((f64::from(time) - optimum).abs() < 1e-3, "{} against {}", time, optimum);
        }
    }

    #[test]
    fn bounds_are_the_cheapest_pair_of_batches(raw in affine(5, 8), tenth in 0_u32..=10) {
        let table = table(&raw, 8);
        let items = super::items(&profiles(&raw), &(0..raw.len()).collect::<Vec<_>>()).unwrap();
        let each = |item: &super::Item| {
            let inputs = item.inputs as f64;
            (item.value as f64 / inputs, item.time as f64 / inputs)
        };
        let points: Vec<(f64, f64)> = items.iter().map(each).collect();
        let values = points.iter().map(|point| point.0);
        let (low, high) = (values.clone().fold(f64::INFINITY, f64::min), values.fold(0.0, f64::max));
        let floor = (low + (high - low) * f64::from(tenth) / 10.0).floor() as u64;
        let need = floor as f64;
        let mut least = f64::INFINITY;
        for &(v, t) in points.iter().filter(|point| point.0 >= need) {
            least = least.min(t);
            for &(v0, t0) in points.iter().filter(|point| point.0 < need) {
                least = least.min(t0 + (need - v0) / (v - v0) * (t - t0));
            }
        }
        let found = 1e9 * table.relaxed_seconds(1, floor);
        prop_assert!((found - least).abs() <= 1e-9 * least, "{} for {}", found, least);
    }

    #[test]
    fn composed_mixes_are_close_to_exact_ones(raw in affine(5, 8), inputs in 65_usize..200) {
        let (small, large) = (table(&raw, 64), table(&raw, inputs));
        for mix in small.alternatives(inputs, 0.0, 9).unwrap() {
            prop_assert_eq!(mix.inputs(), inputs);
            let floor = (mix.accuracy * 1e6).floor() / 1e6;
            let composed = small.cheapest(inputs, floor).unwrap().unwrap();
            let exact = large.cheapest(inputs, floor).unwrap().unwrap();
            prop_assert!(composed.accuracy >= floor);
            prop_assert!(exact.seconds <= composed.seconds + 1e-12);
            prop_assert!(composed.seconds_bound <= exact.seconds + 1e-12);
            prop_assert!(composed.seconds <= 1.05 * exact.seconds);
        }
    }
}

fn assert_alternatives(raw: &[Raw], inputs: usize, count: usize) {
    let table = table(raw, 64);
    let best = raw.iter().map(|(accuracy, _)| *accuracy).max().unwrap();
    let floor = f64::from(best - 100) / 1e3;
    let mixes = table.alternatives(inputs, floor, count).unwrap();
    assert!((1..=count).contains(&mixes.len()));
    assert!(mixes[0].accuracy >= floor);
    assert_eq!(&mixes[0], &table.cheapest(inputs, floor).unwrap().unwrap());
    for pair in mixes.windows(2) {
        assert!(pair[0].seconds < pair[1].seconds && pair[0].accuracy < pair[1].accuracy);
    }
    if count > 1 {
        let top = f64::from(best) / 1e3;
        assert!((mixes[mixes.len() - 1].accuracy - top).abs() < 1e-9);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn alternatives_rise_from_the_cheapest_to_the_best(
        raw in affine(6, 8), inputs in 1_usize..200, count in 1_usize..12
    ) {
        assert_alternatives(&raw, inputs, count);
    }
}

#[test]
fn one_mix_for_two_minima_stays_the_lower_ones() {
    let line = |first: u32, step: u32| (0..8).map(|at| first + step * at).collect();
    let raw = [
        (742, line(268, 258)),
        (500, line(20, 10)),
        (840, line(496, 416)),
    ];
    assert_alternatives(&raw, 65, 3);
}

#[test]
fn a_position_goes_to_every_strategy_in_proportion() {
    let raw = vec![(500, vec![10]), (1000, vec![100])];
    let mix = table(&raw, 10).cheapest(10, 0.65).unwrap().unwrap();
    assert_eq!(mix.inputs_by(1), 3);
    let hits = (0..10_000)
        .filter(|&seed| {
            let parts = mix.assign(seed);
            let (strategy, _) = parts.iter().find(|(_, range)| range.contains(&0)).unwrap();
            *strategy == 1
        })
        .count();
    assert!((2_800..3_200).contains(&hits), "{hits}");
}

#[test]
fn drifted_latencies_scale_a_mix() {
    let raw = [(700, vec![10, 15]), (800, vec![30])];
    let mix = table(&raw, 8).cheapest(8, 0.75).unwrap().unwrap();
    let [slow, same] = [2.0, 1.0].map(|scale| profiles(&raw)[1].scaled(scale).unwrap());
    let first = profiles(&raw)[0].clone();
    let grown = mix.seconds_by(&[first.clone(), slow]) - mix.seconds_by(&[first.clone(), same]);
    assert!((grown - 30e-6 * mix.inputs_by(1) as f64).abs() < 1e-12 && grown > 0.0);
    assert!(first.scaled(f64::NAN).is_err() && first.scaled(-1.0).is_err());
}

#[test]
fn tables_are_built_once_for_each_set_and_no_larger_than_jobs() {
    let raw = [(700, vec![10, 15]), (800, vec![30]), (900, vec![50])];
    let mut cache = super::FrontCache::new(profiles(&raw), 40);
    let mut table = |available: &[usize], inputs| cache.table(available, inputs);
    let first = table(&[0, 2], 8).unwrap();
    for inputs in [1, 8] {
        assert!(std::sync::Arc::ptr_eq(
            &first,
            &table(&[0, 2], inputs).unwrap()
        ));
    }
    let mix = first.cheapest(8, 0.9).unwrap().unwrap();
    assert_eq!(mix.inputs_by(2), 8);
    let other = table(&[0, 1], 8).unwrap();
    assert!(other.cheapest(8, 0.9).unwrap().is_none());
    let sizes = [1, 9, 16, 33, 5, 1_000].map(|inputs| table(&[0, 2], inputs).unwrap().inputs_max());
    assert_eq!(sizes, [8, 16, 16, 40, 40, 40]);
    assert!(table(&[], 8).is_err() && table(&[3], 8).is_err());
}

#[test]
fn what_cannot_be_reached_has_no_mix() {
    let table = table(&[(700, vec![10, 15]), (800, vec![30])], 8);
    assert_eq!(table.cheapest(8, 0.801).unwrap(), None);
    assert_eq!(table.cheapest(100, 0.801).unwrap(), None);
    assert_eq!(table.cheapest(8, 0.8).unwrap().unwrap().inputs_by(1), 8);
    assert_eq!(table.cheapest(100, 0.8).unwrap().unwrap().inputs_by(1), 100);
    assert!(table.front(8).unwrap().cheapest(f64::NAN).is_none());
    assert!(table.front(9).is_none() && table.front(0).is_none());
}

#[test]
fn six_modalities_and_their_cascades_fit_into_a_table() {
    let raw: Vec<Raw> = (0..257)
        .map(|at| (700 + at, vec![100 + at, 150 + at]))
        .collect();
    let available: Vec<usize> = (0..257).collect();
    let build = |strategies| FrontTable::new(&profiles(&raw), &available[..strategies], 16);
    let mix = build(256).unwrap().cheapest(16, 0.955).unwrap().unwrap();
    assert_eq!(mix.inputs_by(255), 16);
    assert!(build(257).is_err());
}

#[test]
fn wrong_numbers_are_refused() {
    let profile = |accuracy, seconds: &[f64]| StrategyProfile::new(accuracy, 0.9, seconds.to_vec());
    for accuracy in [f64::NAN, -0.1, 1.1, f64::INFINITY] {
        assert!(profile(accuracy, &[0.1]).is_err());
    }
    for time in [f64::NAN, -0.1, 0.0, f64::INFINITY, 1e9] {
        assert!(profile(0.9, &[0.1, time]).is_err());
    }
    assert!(profile(0.9, &[]).is_err());
    let one = [profile(0.9, &[0.1]).unwrap()];
    let table = FrontTable::new(&one, &[0], 4).unwrap();
    assert!(FrontTable::new(&one, &[], 4).is_err());
    assert!(FrontTable::new(&one, &[0], 0).is_err());
    assert!(FrontTable::new(&one, &[0], 5000).is_err());
    let unknown = FrontTable::new(&one, &[1], 4).unwrap_err();
    assert_eq!(
        unknown,
        Error::UnknownStrategy {
            index: 1,
            strategies: 1
        }
    );
    for floor in [f64::NAN, -0.1, 1.1] {
        assert!(table.cheapest(4, floor).is_err());
    }
    assert!(table.cheapest(0, 0.5).is_err());
    assert!(table.cheapest(usize::MAX, 0.5).is_err());
}
