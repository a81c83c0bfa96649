//! Grants, revocations and stops, in order: nothing here depends on time.

use super::*;
use std::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// How often every item of a loop was worked on, each in three pieces.
fn pieces(cores: &Cores, items: usize) -> (Result<(), Stopped>, Vec<usize>) {
    let counts: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
    let piece = |(): &mut (), (item, done): (usize, usize)| {
        counts[item].fetch_add(1, Ordering::Relaxed);
        (done < 2).then_some((item, done + 1))
    };
    let all: Vec<(usize, usize)> = (0..items).map(|item| (item, 0)).collect();
    let ended = cores.each(all.into_iter(), || (), piece);
    let counts = counts.into_iter().map(AtomicUsize::into_inner);
    (ended, counts.collect())
}

#[test]
fn every_piece_is_done_once_whatever_is_granted_when() {
    let scripts: [fn(u64) -> usize; 5] = [
        |_| 1,
        |_| 7,
        |at| (at % 2) as usize,
        |at| [0, 3, 1, 0, 0, 7, 2][at as usize % 7],
        |at| usize::from(at % 5 == 4) * 3,
    ];
    for script in scripts {
        for items in [0, 1, 2, 300] {
            let (ended, counts) = pieces(&Cores::rehearsed(script), items);
            assert_eq!((ended, counts), (Ok(()), vec![3; items]));
        }
    }
    let all = Cores::default();
    assert_eq!(pieces(&all, 300), (Ok(()), vec![3; 300]));
    assert_eq!(
        all.usage(),
        Usage::default(),
        "nobody counts what is not lent"
    );
}

#[test]
fn what_is_made_comes_in_order() {
    for cores in [
        Cores::default(),
        Cores::lent(None),
        Cores::rehearsed(|at| (at % 3) as usize),
    ] {
        let doubled = cores.map(1000, 64, |at| 2 * at).unwrap();
        assert!(doubled.iter().enumerate().all(|(at, &made)| made == 2 * at));
        let ranges = cores.map_ranges(10, 4, |range| range).unwrap();
        assert_eq!(ranges, [0..4, 4..8, 8..10]);
        assert!(cores.map(0, 64, |at| at).unwrap().is_empty());
    }
}

/// Lets threads through one at a time.
#[derive(Default)]
struct Gate {
    inside: Mutex<(usize, usize)>,
    moved: Condvar,
}

impl Gate {
    /// Stands before the gate until somebody lets it through.
    fn stand(&self) {
        let mut inside = self.inside.lock().unwrap();
        inside.0 += 1;
        self.moved.notify_all();
        while inside.1 == 0 {
            inside = self.moved.wait(inside).unwrap();
        }
        *inside = (inside.0 - 1, inside.1 - 1);
    }

    fn let_through(&self, count: usize) {
        self.inside.lock().unwrap().1 += count;
        self.moved.notify_all();
    }

    /// Until so many stand there.
    fn wait(&self, count: usize) {
        let mut inside = self.inside.lock().unwrap();
        while inside.0 < count || inside.1 > 0 {
            inside = self.moved.wait(inside).unwrap();
        }
    }

    /// As `wait`, for a second at most: whether so many stand there.
    fn wait_a_while(&self, count: usize) -> bool {
        let inside = self.inside.lock().unwrap();
        let missing = |inside: &mut (usize, usize)| inside.0 < count || inside.1 > 0;
        let waited = self
            .moved
            .wait_timeout_while(inside, Duration::from_secs(1), missing);
        !waited.unwrap().1.timed_out()
    }
}

#[test]
fn who_has_to_leave_takes_no_other_block() {
    let (cores, gate, done) = (Cores::lent(None), Gate::default(), AtomicUsize::new(0));
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(4)
        .build()
        .unwrap();
    cores.grant(3);
    let until_done = |count| {
        while done.load(Ordering::Relaxed) < count {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            pool.install(|| {
                let block = |(): &mut (), _| {
                    gate.stand();
                    done.fetch_add(1, Ordering::Relaxed);
                    None
                };
                cores.each(0..20, || (), block).unwrap();
            });
        });
        gate.wait(3);
        cores.grant(1);
        // Two helpers leave, and the owner goes on alone.
        gate.let_through(3);
        gate.wait(1);
        until_done(3);
        cores.grant(0);
        gate.let_through(1);
        until_done(4);
        cores.grant(2);
        // A helper that was just about to leave does; its owner sees that after its block.
        let mut alone = 0;
        while !gate.wait_a_while(2) {
            alone += 1;
            assert_eq!(alone, 1, "nobody helps");
            gate.let_through(1);
        }
        assert_eq!(done.load(Ordering::Relaxed), 4 + alone);
        gate.let_through(16 - alone);
    });
    assert_eq!(done.load(Ordering::Relaxed), 20);
    let usage = cores.usage();
    assert!(usage.own > Duration::ZERO && usage.helped > Duration::ZERO);
}

#[test]
fn what_sleeps_is_woken_to_stop() {
    let sleeper = Cores::lent(None);
    sleeper.grant(0);
    thread::scope(|scope| {
        let asleep = scope.spawn(|| sleeper.each(0..3, || (), |(), _| panic!("there is no core")));
        sleeper.stop();
        assert_eq!(asleep.join().unwrap(), Err(Stopped));
    });
    assert!(sleeper.is_stopped());
    assert_eq!(sleeper.pass(), Err(Stopped));
}

#[test]
fn a_deadline_ends_work_awake_or_asleep() {
    for cores in [0, 1] {
        let late = Cores::lent(Some(Instant::now()));
        late.grant(cores);
        assert_eq!(late.pass(), Err(Stopped));
        assert_eq!(pieces(&late, 2), (Err(Stopped), vec![0; 2]));
    }
    let soon = Cores::lent(Some(Instant::now() + Duration::from_millis(5)));
    soon.grant(0);
    assert_eq!(soon.pass(), Err(Stopped));
    assert!(soon.usage().asleep > Duration::ZERO);
}

#[test]
fn a_panic_comes_to_who_began_the_loop() {
    let cores = Cores::rehearsed(|_| 3);
    let block = |(): &mut (), at: usize| {
        assert!(at != 5, "the fifth");
        None
    };
    let looped = std::panic::AssertUnwindSafe(|| cores.each(0..10, || (), block));
    let caught = std::panic::catch_unwind(looped);
    assert!(caught.is_err());
    assert_eq!(pieces(&cores, 5).0, Ok(()));
}

#[test]
fn what_is_held_is_said() {
    let cores = Cores::lent(None);
    cores.hold(100);
    assert_eq!((cores.held(), Cores::default().held()), (100, 0));
}
