//! The journal, with a stand-in for journald.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use courier::journal::{Journal, message_id};
use courier::receiver::{About, QUEUE_ALERTS, Queue, Told, Worker};
use rampage::event::{FindingKind, Severity};
use tokio::time::{Instant, sleep};

use crate::tracer::alert;

/// As many as wait at most.
const ALL: u64 = QUEUE_ALERTS as u64;

fn told(id: u64) -> Arc<Told> {
    let about = Arc::new(About { host: "web-3".to_owned(), ..About::default() });
    Arc::new(Told { about, alert: alert(id, Severity::Critical), since: Instant::now() })
}

async fn wait(queue: &Queue, delivered: u64) {
    let until = Instant::now() + Duration::from_secs(20);
    while queue.delivery().delivered < delivered {
        assert!(Instant::now() < until, "{:?}", queue.delivery());
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn each_finding_is_one_entry_also_when_journald_is_busy_or_starts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let journald = UnixDatagram::bind(&path).unwrap();
    let queue = Queue::new("journal");
    let give_up = Duration::from_secs(30);
    let worker = Worker::start(Arc::clone(&queue), Journal::new(path.clone()), give_up, None);
    // More than its socket holds, by net.unix.max_dgram_qlen or by the buffer of 208 KiB: the rest waits.
    for id in 1..=ALL {
        queue.push(told(id));
    }
    sleep(Duration::from_millis(200)).await;
    let before = queue.delivery();
    assert!(before.delivered < ALL && before.lost == 0, "{before:?}");
    let (mut entries, mut entry) = (Vec::new(), vec![0; 1 << 16]);
    journald.set_nonblocking(true).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while entries.len() < ALL as usize && Instant::now() < until {
        match journald.recv(&mut entry) {
            Ok(bytes) => entries.push(String::from_utf8_lossy(&entry[..bytes]).into_owned()),
            Err(_) => sleep(Duration::from_millis(1)).await,
        }
    }
    wait(&queue, ALL).await;
    let messages = |entry: &String| entry.contains("finding ");
    assert_eq!(entries.iter().filter(|entry| messages(entry)).count(), ALL as usize);
    assert!(entries[0].contains("RAMPAGE_POOL") && entries[0].contains("finding 1\n"));
    assert!(entries[0].contains(message_id(FindingKind::Pressure)));
    // It starts anew.
    drop(journald);
    std::fs::remove_file(&path).unwrap();
    let journald = UnixDatagram::bind(&path).unwrap();
    queue.push(told(ALL + 1));
    wait(&queue, ALL + 1).await;
    let bytes = journald.recv(&mut entry).unwrap();
    assert!(String::from_utf8_lossy(&entry[..bytes]).contains(&format!("finding {}\n", ALL + 1)));
    // It is gone: that is a loss, and counted at once.
    drop(journald);
    std::fs::remove_file(&path).unwrap();
    queue.push(told(ALL + 2));
    queue.push(told(ALL + 3));
    let until = Instant::now() + Duration::from_secs(10);
    while queue.delivery().lost < 2 && Instant::now() < until {
        sleep(Duration::from_millis(10)).await;
    }
    let delivery = queue.delivery();
    assert_eq!((delivery.delivered, delivery.lost), (ALL + 1, 2));
    worker.stop().await;
}
