//! Whose turn it is, on two cores.

use super::{Ask, Machine};

/// 275 ms on two cores.
const HEAVY: Ask = Ask {
    serial: 0.005,
    parallel: 0.540,
    bytes: 300_000,
    deadline: None,
};

/// 0.9 ms on one core.
const LIGHT: Ask = Ask {
    serial: 0.0004,
    parallel: 0.0005,
    bytes: 6000,
    deadline: None,
};

/// 10 s on two cores.
const HUGE: Ask = Ask {
    serial: 0.5,
    parallel: 19.0,
    bytes: 20_000_000,
    deadline: None,
};

fn machine(models: &[bool]) -> Machine {
    let mut machine = Machine::new(2, models);
    machine.learn(0, HEAVY);
    machine.learn(0, HUGE);
    for model in 1..models.len() {
        machine.learn(model, LIGHT);
    }
    machine
}

#[test]
fn what_uses_all_cores_is_executed_one_after_the_other() {
    let mut machine = machine(&[true]);
    let begun = machine.now;
    let first = machine.send(0, HEAVY.due(0.42));
    // Beside the first it would be late, and after it too.
    let second = machine.send(0, HEAVY.due(0.42));
    assert_eq!(machine.fates[second].error, Some("deadline_unmeetable"));
    machine.advance(begun + 0.2);
    let third = machine.send(0, HEAVY.due(0.42));
    machine.advance(begun + 1.0);
    for (number, ended) in [(first, 0.275), (third, 0.55)] {
        assert!(machine.fates[number].is_kept());
        let found = machine.fates[number].ended.unwrap() - begun;
        assert!((found - ended).abs() < 1e-3, "{found}");
    }
    assert_eq!(machine.over, 0);
}

#[test]
fn as_many_answers_are_in_time_whoever_asks() {
    for varies in [0.0, 0.05, 0.1, 0.2] {
        let kept = [1, 2, 8].map(|clients| {
            let mut machine = machine(&[true]);
            machine.varies = varies;
            machine.closed(clients, (0, HEAVY.due(0.42)), 100.0)
        });
        assert!(kept[0] >= 340, "{varies}: {kept:?}");
        assert!(
            kept.iter().all(|&some| 20 * some >= 19 * kept[0]),
            "{varies}: {kept:?}"
        );
    }
}

#[test]
fn a_light_model_waits_for_no_heavy_one() {
    for heavy in [HEAVY, HUGE, HEAVY.due(0.7), HUGE.due(30.0)] {
        let mut machine = machine(&[true, true]);
        let begun = machine.now;
        let asked = machine.send(0, heavy);
        machine.send(0, heavy);
        let mut lights = Vec::new();
        for at in 0..40 {
            machine.advance(begun + f64::from(at) * 0.006);
            lights.push(machine.send(1, LIGHT));
        }
        machine.advance(begun + 60.0);
        for light in lights {
            let took = machine.fates[light].took();
            assert!(took <= 0.0009 + 1e-9, "{took} beside {heavy:?}");
        }
        // The heavy one went on meanwhile, and gave up no more than a core for that long.
        let alone = heavy.time().seconds(2);
        let took = machine.fates[asked].took();
        assert!(
            machine.fates[asked].is_kept() && took <= alone + 40.0 * 0.0009,
            "{took}"
        );
        assert_eq!(machine.over, 0);
    }
}

#[test]
fn what_cannot_give_way_is_not_asked_to() {
    // A model of sessions of one thread, beside one that shares cores.
    let mut machine = Machine::new(2, &[true, false]);
    machine.learn(0, HUGE);
    let session = Ask {
        serial: 0.1,
        parallel: 0.0,
        bytes: 100,
        deadline: None,
    };
    machine.learn(1, session);
    let huge = machine.send(0, HUGE);
    let begun = machine.now;
    let sessions = [(); 3].map(|()| machine.send(1, session));
    machine.advance(begun + 100.0);
    let took = sessions.map(|session| machine.fates[session].took());
    // One at a time takes a core; the other one is the huge one's.
    assert!(took[0] <= 0.101 && took[2] <= 0.5, "{took:?}");
    assert!(machine.fates[huge].took() < 10.6);
    let light = machine.now;
    let long = machine.send(1, session);
    let other = machine.send(1, session);
    let small = machine.send(0, LIGHT);
    machine.advance(light + 1.0);
    assert!(
        machine.fates[small].took() < 0.002,
        "{}",
        machine.fates[small].took()
    );
    assert!(machine.fates[long].took() < 0.11 && machine.fates[other].took() < 0.11);
}

#[test]
fn models_without_deadlines_take_turns() {
    let mut machine = machine(&[true, true]);
    machine.learn(1, HEAVY);
    let begun = machine.now;
    let huge = machine.send(0, HUGE);
    machine.advance(begun + 1.0);
    let sent = machine.now;
    let heavy = [(); 4].map(|()| machine.send(1, HEAVY));
    machine.advance(begun + 30.0);
    for (at, &number) in heavy.iter().enumerate() {
        let took = machine.fates[number].ended.unwrap() - sent;
        // Half of the machine: each of 275 ms takes 550.
        let fair = 0.55 * (at + 1) as f64;
        assert!((fair - 0.35..=fair + 0.1).contains(&took), "{at}: {took}");
    }
    assert!(machine.fates[huge].took() < 10.0 + 4.0 * 0.28);
}

#[test]
fn a_small_or_urgent_request_overtakes_a_large_one_of_its_model() {
    let mut machine = machine(&[true]);
    machine.learn(0, LIGHT);
    let begun = machine.now;
    let huge = [machine.send(0, HUGE), machine.send(0, HUGE)];
    machine.advance(begun + 1.0);
    let light = machine.send(0, LIGHT);
    let medium = machine.send(0, HEAVY);
    machine.advance(begun + 2.0);
    let urgent = machine.send(0, HEAVY.due(0.3));
    machine.advance(begun + 100.0);
    assert!(machine.fates[light].took() < 0.001);
    assert!(
        machine.fates[medium].took() < 0.3,
        "{}",
        machine.fates[medium].took()
    );
    assert!(machine.fates[urgent].is_kept());
    // The large one is held up by what overtook it, not more.
    assert!(
        machine.fates[huge[0]].took() < 10.0 + 0.6,
        "{}",
        machine.fates[huge[0]].took()
    );
    assert!(machine.fates[huge[1]].took() < 20.0 + 0.6);
}

#[test]
fn small_requests_do_not_hold_up_a_large_one_for_good() {
    let mut machine = machine(&[true]);
    let begun = machine.now;
    let huge = machine.send(0, HUGE);
    machine.advance(begun + 0.5);
    let more = machine.closed(4, (0, HEAVY), 40.0);
    assert!(more > 20, "{more}");
    assert!(
        machine.fates[huge].took() < 25.0,
        "{}",
        machine.fates[huge].took()
    );
}

#[test]
fn what_has_no_deadline_keeps_its_share() {
    let mut machine = machine(&[true]);
    let begun = machine.now;
    let huge = machine.send(0, HUGE);
    machine.advance(begun + 0.1);
    let kept = machine.closed(4, (0, HEAVY.due(0.6)), 30.0);
    assert!(kept > 80, "{kept}");
    let done = machine.fates[huge].begun.is_some();
    let left = machine
        .runs
        .iter()
        .find(|run| run.request == huge)
        .map(|run| run.left);
    assert!(
        done && left.is_none_or(|left| left < 19.5 - 0.05 * 2.0 * 29.0),
        "{left:?}"
    );
}
