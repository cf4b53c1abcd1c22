//! Which worker serves a visitor.
//!
//! The kernel spreads connections over the workers' listeners by chance. With few connections, as from a balancer that
//! keeps its own open, chance is uneven: of 64 over 8 workers the busiest has half as many again as its share, and the
//! machine is busy when two thirds of it are. So a worker that has clearly more than another hands a new visitor on.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The doors of all workers.
pub(super) struct Doors(Vec<Door>);

struct Door {
    /// Connections that its worker has, or is about to be handed.
    open: AtomicUsize,
    visitors: UnboundedSender<Visitor>,
}

/// A connection on its way to a worker. There are never more than `server.max_connections`, each having its place.
pub(super) struct Visitor {
    pub socket: TcpStream,
    pub peer: SocketAddr,
    pub place: Option<OwnedSemaphorePermit>,
    pub seat: Seat,
}

/// Counts a connection for as long as it lives.
pub(super) struct Seat {
    doors: Arc<Doors>,
    pub worker: usize,
}

impl Doors {
    /// With what each worker is handed.
    pub fn new(workers: usize) -> (Arc<Self>, Vec<UnboundedReceiver<Visitor>>) {
        let (doors, handed) = (0..workers)
            .map(|_| {
                let (visitors, handed) = unbounded_channel();
                (Door { open: AtomicUsize::new(0), visitors }, handed)
            })
            .unzip();
        (Arc::new(Self(doors)), handed)
    }

    /// How many connections each worker has.
    #[cfg(test)]
    pub fn open(&self) -> Vec<usize> {
        self.0.iter().map(|door| door.open.load(Ordering::Relaxed)).collect()
    }

    /// A seat for a visitor who came to this worker's door, at another's if that one has clearly fewer.
    pub fn seat(self: &Arc<Self>, worker: usize) -> Seat {
        let open = |door: &Door| door.open.load(Ordering::Relaxed);
        let mine = self.0.get(worker).map_or(0, open);
        let least = self.0.iter().map(open).enumerate().min_by_key(|(_, open)| *open);
        let worker = least.filter(|(_, least)| mine > least + least / 8).map_or(worker, |(other, _)| other);
        if let Some(door) = self.0.get(worker) {
            door.open.fetch_add(1, Ordering::Relaxed);
        }
        Seat { doors: Arc::clone(self), worker }
    }

    /// Hands a visitor to the worker of its seat. One that has stopped takes nobody in: the connection ends.
    pub fn hand(&self, visitor: Visitor) {
        if let Some(door) = self.0.get(visitor.seat.worker) {
            door.visitors.send(visitor).ok();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(door) = self.doors.0.get(self.worker) {
            door.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_visitors_are_spread_evenly_whichever_door_they_came_to() {
        let (doors, _handed) = Doors::new(4);
        let seats: Vec<Seat> = (0..32).map(|_| doors.seat(1)).collect();
        assert_eq!(doors.open(), [8; 4]);
        drop(seats);
        assert_eq!(doors.open(), [0; 4]);
    }

    #[test]
    fn of_many_a_few_more_or_less_are_left_where_they_came() {
        let (doors, _handed) = Doors::new(2);
        let seats: Vec<Seat> = (0..400).map(|number| doors.seat(number % 2)).collect();
        assert_eq!(doors.open(), [200; 2]);
        let mut more: Vec<Seat> = (0..26).map(|_| doors.seat(0)).collect();
        assert_eq!(doors.open(), [226, 200], "an eighth more is no reason");
        more.push(doors.seat(0));
        assert_eq!(more.last().map(|seat| seat.worker), Some(1));
        drop(seats);
        assert_eq!(doors.seat(0).worker, 1, "25 are clearly more than 1");
    }
}
