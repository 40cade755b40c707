//! Places of which there is a limited number, and who has taken one.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// A limited number of places. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Places {
    taken: Gauge,
    limit: Gauge,
    opened: Counter,
    refused: Counter,
}

/// One place, given back when it is dropped.
#[derive(Debug)]
pub struct Place(Gauge);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Places {
    /// As many as `limit`.
    pub fn new(limit: usize) -> Self {
        let places = Self::default();
        places.set_limit(limit);
        places
    }

    /// From now on there are this many. Who has a place already keeps it.
    pub fn set_limit(&self, limit: usize) {
        self.limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// How many there are.
    pub fn limit(&self) -> i64 {
        self.limit.get()
    }

    /// Takes a place; when there is none left, that is counted as a refusal.
    pub fn take(&self) -> Option<Place> {
        let before = self.taken.inc();
        let place = Place(self.taken.clone());
        if before >= self.limit() {
            self.refused.inc();
            return None;
        }
        Some(place)
    }

    /// What a place was taken for has come about.
    pub fn opened(&self) {
        self.opened.inc();
    }

    pub(super) fn register(&self, registry: &mut Registry, name: &str, what: &str) {
        registry.register(name, format!("Open {what}"), self.taken.clone());
        let help = format!("Most {what} at a time, as configured");
        registry.register(format!("{name}_limit"), help, self.limit.clone());
        registry.register(format!("{name}_opened"), format!("Opened {what}"), self.opened.clone());
        let help = format!("Refused {what}: the limit was reached");
        registry.register(format!("{name}_refused"), help, self.refused.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_and_the_limit_may_change() {
        let places = Places::new(1);
        let first = places.take();
        assert!(first.is_some() && places.take().is_none());
        places.set_limit(2);
        let second = places.take();
        assert!(second.is_some() && places.take().is_none());
        drop((first, second));
        assert!(places.take().is_some());
        assert_eq!((places.taken.get(), places.refused.get()), (0, 2));
    }
}
