//! The resolver against a name server that speaks the real protocol.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;

use super::*;

/// What the server says of every name.
#[derive(Clone, Debug)]
enum Says {
    Has(Vec<IpAddr>, u32),
    NoSuchName,
    Nothing,
}

struct Server {
    says: Arc<Mutex<Says>>,
    address: SocketAddr,
}

impl Server {
    async fn start(says: Says) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
        let address = socket.local_addr().expect("an address");
        let says = Arc::new(Mutex::new(says));
        tokio::spawn(answer_all(socket, Arc::clone(&says)));
        Self { says, address }
    }

    fn say(&self, says: Says) {
        *self.says.lock().expect("the lock") = says;
    }
}

async fn answer_all(socket: UdpSocket, says: Arc<Mutex<Says>>) {
    let mut bytes = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut bytes).await.expect("a question");
        let question = Message::from_vec(&bytes[..length]).expect("a message");
        let says = says.lock().expect("the lock").clone();
        if let Some(answer) = answer(&question, &says) {
            let answer = answer.to_vec().expect("bytes");
            socket.send_to(&answer, from).await.expect("send");
        }
    }
}

fn answer(question: &Message, says: &Says) -> Option<Message> {
    let mut answer = question.clone();
    answer.set_message_type(MessageType::Response);
    answer.set_authoritative(true);
    let query = question.queries().first().expect("a query");
    match says {
        Says::Nothing => return None,
        Says::NoSuchName => drop(answer.set_response_code(ResponseCode::NXDomain)),
        Says::Has(ips, ttl) => {
            for ip in ips {
                let data = match (ip, query.query_type()) {
                    (IpAddr::V4(ip), RecordType::A) => RData::A((*ip).into()),
                    (IpAddr::V6(ip), RecordType::AAAA) => RData::AAAA((*ip).into()),
                    _ => continue,
                };
                answer.add_answer(Record::from_rdata(query.name().clone(), *ttl, data));
            }
        }
    }
    Some(answer)
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// Runs the resolver for one name; what it orders comes out.
fn resolving(server: &Server) -> (watch::Sender<Wanted>, Receiver<Order>) {
    let (names, wanted) = watch::channel(Wanted::default());
    let (orders, said) = channel();
    tokio::spawn(run(vec![server.address], wanted, orders));
    names.send_replace(Arc::new(BTreeSet::from(["db.example".into()])));
    (names, said)
}

/// The next answer that is told.
async fn next(said: &Receiver<Order>) -> Vec<IpAddr> {
    loop {
        if let Ok(order) = said.try_recv() {
            let Order::Resolved(name, mut ips) = order else { panic!("{order:?}") };
            assert_eq!(&*name, "db.example");
            ips.sort();
            return ips;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn both_families_are_found_and_asked_for_again_when_their_time_is_over() {
    let server = Server::start(Says::Has(vec![V4, V6], 1)).await;
    let (_names, said) = resolving(&server);
    assert_eq!(next(&said).await, [V4, V6]);
    server.say(Says::Has(vec![V6], 1));
    while next(&said).await != [V6] {}
}

#[tokio::test]
async fn a_server_that_is_silent_takes_nothing_away_and_one_that_denies_twice_does() {
    let server = Server::start(Says::Has(vec![V4], 1)).await;
    let (_names, said) = resolving(&server);
    assert_eq!(next(&said).await, [V4]);
    server.say(Says::Nothing);
    // longer than the answer's time and a question's
    sleep(Duration::from_secs(3)).await;
    assert!(said.try_iter().all(|order| matches!(order, Order::Resolved(_, ips) if ips == [V4])));
    server.say(Says::NoSuchName);
    assert_eq!(next(&said).await, Vec::<IpAddr>::new());
    server.say(Says::Has(vec![V4], 1));
    assert_eq!(next(&said).await, [V4]);
}

#[tokio::test]
async fn what_nobody_wants_is_not_asked_for() {
    let server = Server::start(Says::Has(vec![V4], 1)).await;
    let (names, said) = resolving(&server);
    assert_eq!(next(&said).await, [V4]);
    names.send_replace(Wanted::default());
    sleep(Duration::from_secs(1)).await;
    let _ = said.try_iter().count();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(said.try_iter().count(), 0);
}

#[test]
fn waits_grow_and_names_come_and_go() {
    let name: Name = "a.example".into();
    let mut names = BTreeMap::new();
    follow(&mut names, &BTreeSet::from([name.clone()]));
    assert_eq!(due(&mut names, 4), std::slice::from_ref(&name));
    assert_eq!(due(&mut names, 4), Vec::<Name>::new(), "it is being asked for");
    let mut waits = Vec::new();
    for _ in 0..12 {
        assert_eq!(take(&mut names, &name, Asked::Failed("away".into())), None);
        waits.push(names[&name].due.expect("a time").saturating_duration_since(Instant::now()));
    }
    assert!(waits[0] < Duration::from_secs(2), "{waits:?}");
    assert!(waits[11] > Duration::from_secs(44), "{waits:?}");
    assert!(waits[11] <= BACKOFF.1.mul_f64(1.25), "{waits:?}");
    follow(&mut names, &BTreeSet::new());
    assert_eq!(take(&mut names, &name, Asked::None), None, "nobody wants it");
}
