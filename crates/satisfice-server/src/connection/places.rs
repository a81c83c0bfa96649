//! Places for connections on one listener, and who has to leave when there is none.

use super::activity::{Activity, GivenUp};
use crate::Limits;
use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// Looking through all connections gives the next so many of them that have to leave, one part of all.
const LEAVING_PART: usize = 16;
/// Addresses for which that is remembered.
const LEAVING_ADDRESSES_MAX: usize = 64;
/// How soon a full listener looks again whether one is at rest.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The connections of one listener.
pub(super) struct Places {
    all_max: usize,
    address_max: Option<usize>,
    taken: Mutex<Taken>,
    freed: Notify,
}

/// A connection's place, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    pub(super) activity: Arc<Activity>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoPlace {
    /// All are taken by connections with requests under way.
    AllBusy,
    /// All that one address may have are.
    AddressBusy,
}

/// A client's address, or its network: in IPv6 one client has 2^64 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Origin(IpAddr);

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                let network = address.to_bits() & (u128::MAX << 64);
                Ipv6Addr::from_bits(network).into()
            }
            address => address,
        })
    }
}

#[derive(Default)]
struct Taken {
    next: u64,
    places: HashMap<u64, (Origin, Arc<Activity>)>,
    origins: HashMap<Origin, usize>,
    /// Those that were at rest for the longest when all were looked through, of one origin or of all, and
    /// since when.
    leaving: HashMap<Option<Origin>, VecDeque<(u64, u64)>>,
}

impl Places {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            all_max: limits.connections_max.max(1),
            address_max: limits.connections_per_address_max.map(|max| max.max(1)),
            taken: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// A place for a new connection, when there is one; none at once where its address has all that
    /// it may have.
    pub(super) async fn admit(self: &Arc<Self>, client: SocketAddr) -> Option<Place> {
        loop {
            match self.try_admit(client) {
                Ok(place) => return Some(place),
                Err(NoPlace::AddressBusy) => return None,
                Err(NoPlace::AllBusy) => {}
            }
            let freed = self.freed.notified();
            let _ = tokio::time::timeout(LOOK_AGAIN, freed).await;
        }
    }

    fn try_admit(self: &Arc<Self>, client: SocketAddr) -> Result<Place, NoPlace> {
        let origin = Origin::from(client.ip());
        let mut taken = self.lock();
        let has = taken.origins.get(&origin).copied().unwrap_or(0);
        if self.address_max(origin).is_some_and(|max| has >= max)
            && !taken.give_one_up(Some(origin))
        {
            return Err(NoPlace::AddressBusy);
        }
        if taken.places.len() >= self.all_max && !taken.give_one_up(None) {
            return Err(NoPlace::AllBusy);
        }
        let activity = Arc::new(Activity::new());
        let number = taken.insert(origin, Arc::clone(&activity));
        let places = Arc::clone(self);
        Ok(Place {
            places,
            number,
            activity,
        })
    }

    fn address_max(&self, origin: Origin) -> Option<usize> {
        match self.address_max {
            None if origin.0.is_loopback() => None,
            None => Some(self.all_max.div_ceil(2)),
            set => set,
        }
    }

    /// Gives up one connection, if there is one that may be.
    pub(super) fn give_one_up(&self) -> bool {
        self.lock().give_one_up(None)
    }

    /// Has all connections end as soon as they are at rest.
    pub(super) fn stop(&self) {
        for (_, activity) in self.lock().places.values() {
            activity.give_up(GivenUp::Stopping);
        }
    }

    /// Nothing that is done under the lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn insert(&mut self, origin: Origin, activity: Arc<Activity>) -> u64 {
        self.next += 1;
        self.places.insert(self.next, (origin, activity));
        *self.origins.entry(origin).or_default() += 1;
        self.next
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Activity>> {
        let (origin, activity) = self.places.remove(&number)?;
        if let Some(count) = self.origins.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                self.origins.remove(&origin);
            }
        }
        Some(activity)
    }

    /// Gives up the connection that has been at rest for the longest, of one origin or of all; where
    /// none is at rest, the one whose body arrives slowest.
    fn give_one_up(&mut self, origin: Option<Origin>) -> bool {
        let number = self.longest_at_rest(origin);
        let activity = number
            .or_else(|| self.slowest(origin))
            .and_then(|number| self.remove(number));
        if let Some(activity) = &activity {
            activity.give_up(GivenUp::ForAnother);
        }
        activity.is_some()
    }

    fn longest_at_rest(&mut self, origin: Option<Origin>) -> Option<u64> {
        if let Some(found) = self.next_leaving(origin) {
            return Some(found);
        }
        self.look_through(origin);
        self.next_leaving(origin)
    }

    /// The next that is at rest still, and has been all the time.
    fn next_leaving(&mut self, origin: Option<Origin>) -> Option<u64> {
        let leaving = self.leaving.get_mut(&origin)?;
        while let Some((number, since)) = leaving.pop_front() {
            let place = self.places.get(&number);
            if place.is_some_and(|(_, activity)| activity.resting_since() == Some(since)) {
                return Some(number);
            }
        }
        self.leaving.remove(&origin);
        None
    }

    fn look_through(&mut self, origin: Option<Origin>) {
        let mut resting: Vec<_> = self
            .of(origin)
            .filter_map(|(number, activity)| Some((activity.resting_since()?, number)))
            .collect();
        let part = resting.len().div_ceil(LEAVING_PART);
        if part == 0 {
            return;
        }
        resting.select_nth_unstable(part - 1);
        resting.truncate(part);
        resting.sort_unstable();
        if self.leaving.len() >= LEAVING_ADDRESSES_MAX {
            self.leaving.clear();
        }
        let leaving = resting.into_iter().map(|(since, number)| (number, since));
        self.leaving.insert(origin, leaving.collect());
    }

    fn slowest(&self, origin: Option<Origin>) -> Option<u64> {
        self.of(origin)
            .filter_map(|(number, activity)| Some((activity.arriving_rate()?, number)))
            .min()
            .map(|(_, number)| number)
    }

    fn of(&self, origin: Option<Origin>) -> impl Iterator<Item = (u64, &Activity)> {
        self.places
            .iter()
            .filter(move |(_, (from, _))| origin.is_none_or(|origin| origin == *from))
            .map(|(&number, (_, activity))| (number, &**activity))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.places.lock().remove(self.number).is_some() {
            self.places.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Protocol;

    fn places(all: usize, address: Option<usize>) -> Arc<Places> {
        Places::new(&Limits {
            connections_max: all,
            connections_per_address_max: address,
            ..Limits::default()
        })
    }

    fn from(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 1)
    }

    fn left(place: &Place) -> bool {
        place.activity.given_up() == Some(GivenUp::ForAnother)
    }

    #[test]
    fn the_longest_at_rest_leaves() {
        let places = places(3, None);
        let admit = || places.try_admit(from("127.0.0.1"));
        let mut held: Vec<_> = (0..3).map(|_| admit().unwrap()).collect();
        std::thread::sleep(Duration::from_millis(1));
        // The first has work, the second has just had some.
        held[0].activity.begun(true, true);
        held[1].activity.begun(true, true);
        held[1].activity.said(Protocol::Http2);
        held.push(admit().unwrap());
        assert_eq!(
            held.iter().map(left).collect::<Vec<_>>(),
            [false, false, true, false]
        );
        held.push(admit().unwrap());
        assert!(left(&held[1]));
        // Nobody who has work leaves.
        for place in &held[3..] {
            place.activity.begun(true, true);
        }
        assert_eq!(admit().err(), Some(NoPlace::AllBusy));
        drop(held.pop());
        assert!(admit().is_ok());
    }

    fn busy(places: &Arc<Places>, address: &str) -> Result<Place, NoPlace> {
        let place = places.try_admit(from(address))?;
        place.activity.begun(true, true);
        Ok(place)
    }

    #[test]
    fn one_address_does_not_have_them_all() {
        let four = places(4, None);
        let admit = |address| four.try_admit(from(address)).unwrap();
        let held = [admit("10.0.0.1"), admit("10.0.0.1")];
        let other = admit("10.0.0.2");
        let third = admit("10.0.0.1");
        assert_eq!(held.iter().filter(|place| left(place)).count(), 1);
        assert!(!left(&other) && !left(&third));
        for place in held.iter().chain([&third]) {
            place.activity.begun(true, true);
        }
        let refused = busy(&four, "10.0.0.1").err();
        assert_eq!(refused, Some(NoPlace::AddressBusy));
        assert!(busy(&four, "10.0.0.2").is_ok());
    }

    #[test]
    fn what_counts_as_one_address() {
        // All of this machine, unless it is set.
        let two = places(2, None);
        let held = [busy(&two, "127.0.0.1"), busy(&two, "127.0.0.1")];
        assert!(held.iter().all(Result::is_ok));
        let one = places(4, Some(1));
        let refused = |address| busy(&one, address).err() == Some(NoPlace::AddressBusy);
        let _held = ["127.0.0.1", "2001:db8::1", "2001:db8:0:1::1"].map(|address| {
            let place = busy(&one, address);
            assert!(place.is_ok(), "{address}");
            place
        });
        assert!(refused("127.0.0.1") && refused("::ffff:127.0.0.1"));
        // A network of IPv6.
        assert!(refused("2001:db8::2:1"));
    }
}
