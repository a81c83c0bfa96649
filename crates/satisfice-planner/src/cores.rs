//! The cores of a machine, and who has how many of them.
//!
//! A piece of work takes some time on one core, and the rest on as many as it is given. What runs at once shares the cores:
//! what cannot give way first, then what is short, then what is due, the earliest first, and then what is not, by turns.

/// How long a piece of work takes on some cores: a part of it goes no faster on several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CoreTime {
    serial: f64,
    parallel: f64,
}

/// Share of a core that the last one of a piece of work has to add, so that it is worth having.
const USEFUL: f64 = 0.5;

/// What rounding may take away of a speed.
const ROUNDED: f64 = 1e-9;

/// Share of each core that counts, while others wait for cores.
const EFFICIENT: f64 = 0.9;

impl CoreTime {
    /// `serial` seconds on one core, and `parallel` seconds of a core that several may share. What is no time counts as none.
    pub fn new(serial: f64, parallel: f64) -> Self {
        let time = |seconds: f64| match seconds.is_finite() {
            true => seconds.max(0.0),
            false => 0.0,
        };
        Self {
            serial: time(serial),
            parallel: time(parallel),
        }
    }

    /// Of what takes `seconds` on `cores` cores, `serial` of that (0 to 1) on one.
    pub fn on(cores: usize, seconds: f64, serial: f64) -> Self {
        let serial = serial.clamp(0.0, 1.0);
        Self::new(
            seconds * serial,
            seconds * (1.0 - serial) * cores.max(1) as f64,
        )
    }

    /// Seconds on so many cores, at least one.
    pub fn seconds(self, cores: usize) -> f64 {
        self.serial + self.parallel / cores.max(1) as f64
    }

    /// How much of the work is done in a second on so many cores, in seconds on one; nothing without a core.
    pub fn speed(self, cores: usize) -> f64 {
        match cores {
            0 => 0.0,
            _ if self.seconds(cores) <= 0.0 => 1.0,
            _ => self.seconds(1) / self.seconds(cores),
        }
    }

    /// The most cores, at most `cores`, of which the last adds half a core's speed.
    pub fn useful(self, cores: usize) -> usize {
        let adds = |&last: &usize| self.speed(last) - self.speed(last - 1) >= USEFUL - ROUNDED;
        (2..=cores).take_while(adds).last().unwrap_or(1)
    }

    /// The most cores, at most `cores`, of which none is used for less than nine tenths.
    pub fn efficient(self, cores: usize) -> usize {
        let counts = |&all: &usize| self.speed(all) >= EFFICIENT * all as f64 - ROUNDED;
        (2..=cores).take_while(counts).last().unwrap_or(1)
    }
}

/// When a piece of work has its turn. Times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Turn {
    /// It cannot give way.
    Fixed,
    /// It is over as soon as others would have given way: it goes before them, on one core.
    Short,
    /// It has waited for so long that it gets a core before all that is due.
    Owed,
    /// It has to be done by then.
    Due(f64),
    /// It has no deadline: whose model has used less goes first, then what is over sooner.
    Open {
        /// What its model has used of its share.
        used: f64,
        /// What is left to be done.
        left: f64,
    },
}

impl Turn {
    fn key(self) -> (u8, f64, f64) {
        match self {
            Self::Fixed => (0, 0.0, 0.0),
            Self::Short => (1, 0.0, 0.0),
            Self::Owed => (2, 0.0, 0.0),
            Self::Due(by) => (3, by, 0.0),
            Self::Open { used, left } => (4, used, left),
        }
    }
}

/// What a piece of work asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    /// When it has its turn.
    pub turn: Turn,
    /// Cores that it uses well, at least one.
    pub well: usize,
    /// Cores that are of some use to it.
    pub most: usize,
}

/// Cores that short work has before all other, together: an eighth, and at least one.
pub fn cores_for_short(cores: usize) -> usize {
    (cores / 8).max(1)
}

/// How many cores each claim gets, in their order; equal ones in the order in which they stand.
///
/// By turns each gets as many as it uses well; then those that have none get one, and what is left goes to whom it is of some use.
/// All together get at most `cores`; but what cannot give way keeps what it has, and short work gets its core beside it.
pub fn share_out(cores: usize, claims: &[Claim]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..claims.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (claims[a].turn.key(), claims[b].turn.key());
        a.0.cmp(&b.0)
            .then(a.1.total_cmp(&b.1))
            .then(a.2.total_cmp(&b.2))
    });
    let mut granted = vec![0; claims.len()];
    let (mut left, mut short) = (cores, cores_for_short(cores));
    for &at in &order {
        let well = claims[at].well.max(1);
        granted[at] = match claims[at].turn {
            Turn::Fixed => well,
            Turn::Short if short > 0 => {
                short -= 1;
                1
            }
            Turn::Short => 0,
            Turn::Owed => left.min(1),
            Turn::Due(_) | Turn::Open { .. } => left.min(well),
        };
        left = left.saturating_sub(granted[at]);
    }
    // What nobody else can use: first for those who have none.
    for has_some in [false, true] {
        for &at in &order {
            if (granted[at] > 0) == has_some && claims[at].turn != Turn::Fixed {
                let most = if has_some { claims[at].most } else { 1 };
                let more = left.min(most.saturating_sub(granted[at]));
                granted[at] += more;
                left -= more;
            }
        }
    }
    granted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cores_are_worth_having_as_long_as_they_add_something() {
        let all = CoreTime::new(0.0, 1.0);
        assert_eq!((all.useful(64), all.efficient(64)), (64, 64));
        let none = CoreTime::new(1.0, 0.0);
        assert_eq!((none.useful(64), none.efficient(64)), (1, 1));
        // Speeds of 1.5, 1.8 and 2 on two, three and four cores.
        let half = CoreTime::on(1, 1.0, 1.0 / 3.0);
        assert!((half.speed(2) - 1.5).abs() < 1e-12 && (half.speed(4) - 2.0).abs() < 1e-12);
        assert_eq!((half.useful(64), half.efficient(64)), (2, 1));
        let on = CoreTime::on(4, 2.0, 0.25);
        assert!((on.seconds(4) - 2.0).abs() < 1e-12 && (on.seconds(1) - 6.5).abs() < 1e-12);
        let unknown = CoreTime::new(0.0, f64::NAN);
        assert_eq!(
            (unknown.seconds(1), unknown.speed(0), unknown.speed(3)),
            (0.0, 0.0, 1.0)
        );
    }

    fn open(used: f64, left: f64) -> Turn {
        Turn::Open { used, left }
    }

    #[test]
    fn turns_go_in_order() {
        let of = |cores, claims: &[(Turn, usize)]| {
            let claim = |&(turn, well)| Claim {
                turn,
                well,
                most: well,
            };
            share_out(cores, &claims.iter().map(claim).collect::<Vec<_>>())
        };
        // The earliest deadline has all; what is left over goes on.
        assert_eq!(of(2, &[(Turn::Due(2.0), 2), (Turn::Due(1.0), 2)]), [0, 2]);
        assert_eq!(of(8, &[(Turn::Due(2.0), 8), (Turn::Due(1.0), 5)]), [3, 5]);
        assert_eq!(of(2, &[(open(0.0, 1.0), 2), (Turn::Due(9.0), 2)]), [0, 2]);
        // Among models the one that has used less, within one what is over sooner.
        assert_eq!(of(2, &[(open(2.0, 1.0), 2), (open(1.0, 9.0), 2)]), [0, 2]);
        assert_eq!(of(2, &[(open(1.0, 9.0), 2), (open(1.0, 3.0), 2)]), [0, 2]);
        // Short work takes one core, together with other short work.
        assert_eq!(
            of(
                2,
                &[(Turn::Due(1.0), 2), (Turn::Short, 2), (Turn::Short, 2)]
            ),
            [1, 1, 0]
        );
        assert_eq!(
            of(
                16,
                &[(Turn::Due(1.0), 16), (Turn::Short, 2), (Turn::Short, 2)]
            ),
            [14, 1, 1]
        );
        // And more where nobody else wants it.
        assert_eq!(of(2, &[(Turn::Short, 2)]), [2]);
        assert_eq!(of(2, &[(Turn::Short, 2), (Turn::Short, 2)]), [1, 1]);
        // What cannot give way does not; short work is let in beside it.
        assert_eq!(
            of(
                2,
                &[(Turn::Fixed, 1), (Turn::Fixed, 1), (open(0.0, 1.0), 2)]
            ),
            [1, 1, 0]
        );
        assert_eq!(
            of(2, &[(Turn::Fixed, 1), (Turn::Fixed, 1), (Turn::Short, 1)]),
            [1, 1, 1]
        );
        assert_eq!(of(2, &[(Turn::Due(1.0), 2), (Turn::Owed, 2)]), [1, 1]);
    }

    fn claims() -> impl Strategy<Value = Vec<Claim>> {
        let turn = prop_oneof![
            Just(Turn::Fixed),
            Just(Turn::Short),
            Just(Turn::Owed),
            (0..9).prop_map(|by| Turn::Due(f64::from(by))),
            (0..9, 0..9).prop_map(|(used, left): (i32, i32)| open(used.into(), left.into())),
        ];
        let claim = (turn, 1..20_usize, 0..9_usize).prop_map(|(turn, well, more)| Claim {
            turn,
            well,
            most: well + more,
        });
        prop::collection::vec(claim, 0..12)
    }

    proptest! {
        #[test]
        fn no_core_is_granted_twice_or_left_over(cores in 1..40_usize, claims in claims()) {
            let granted = share_out(cores, &claims);
            let of = |turn: fn(Turn) -> bool| -> usize {
                let granted = granted.iter().zip(&claims);
                granted.filter(|(_, claim)| turn(claim.turn)).map(|(granted, _)| granted).sum()
            };
            let fixed = of(|turn| turn == Turn::Fixed);
            let all: usize = granted.iter().sum();
            prop_assert!(all <= cores.max(fixed) + cores_for_short(cores));
            if fixed + cores_for_short(cores) <= cores {
                prop_assert!(all <= cores);
            }
            let wanted = claims.iter().map(|claim| match claim.turn {
                Turn::Fixed => claim.well,
                _ => claim.most,
            });
            let wanted: usize = wanted.sum();
            prop_assert!(all >= cores.min(wanted), "{granted:?}");
            for (granted, claim) in granted.iter().zip(&claims) {
                prop_assert!(*granted <= claim.most);
            }
            // Who is due later has nothing while who is due sooner has less than it can use, but for what is lent.
            for (a, b) in claims.iter().enumerate().flat_map(|(a, _)| (0..claims.len()).map(move |b| (a, b))) {
                if let (Turn::Due(sooner), Turn::Due(later)) = (claims[a].turn, claims[b].turn) {
                    prop_assert!(sooner >= later || granted[a] >= claims[a].well || granted[b] == 0);
                }
            }
        }
    }
}
