use std::sync::{Mutex, PoisonError};

use super::*;

/// Stands still until it is told to pass.
#[derive(Debug)]
pub(super) struct Time(Mutex<Instant>);

impl Default for Time {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Time {
    pub(super) fn now(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, duration: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += duration;
    }
}

fn limits(address: &str, user: &str, cost: &str) -> RateLimits {
    RateLimits {
        address: address.parse().unwrap(),
        user: user.parse().unwrap(),
        cost: cost.parse().unwrap(),
    }
}

const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
const THERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

fn somebody(number: u128) -> UserId {
    UserId::from_ulid(ulid::Ulid(number))
}

async fn served(
    rates: &Rates,
    address: Option<IpAddr>,
    user: Option<UserId>,
    cost: u64,
    asked: usize,
) -> usize {
    let mut served = 0;
    for _ in 0..asked {
        served += usize::from(rates.ask(address, user, cost).await.retry_after.is_none());
    }
    served
}

#[test]
fn a_rate_is_written_as_two_numbers() {
    let rate: Rate = "100/1000".parse().unwrap();
    assert_eq!((rate.per_second, rate.burst), (100, 1_000));
    for wrong in ["", "100", "0/10", "10/0", "a/b", "1/2/3", "-1/2"] {
        assert_eq!(wrong.parse::<Rate>(), Err(NoRate), "{wrong}");
    }
}

#[tokio::test]
async fn a_burst_is_served_and_then_as_many_as_come_back() {
    let rates = Rates::new(limits("10/50", "10/50", "1000/10000"), None);
    assert_eq!(served(&rates, HERE, None, 1, 100).await, 50);
    let wait = rates.ask(HERE, None, 1).await.retry_after.unwrap();
    assert!(wait <= Duration::from_millis(100), "{wait:?}");
    assert_eq!(served(&rates, THERE, None, 1, 10).await, 10);
    rates.inner.time.pass(Duration::from_secs(2));
    assert_eq!(served(&rates, HERE, None, 1, 100).await, 20);
}

#[tokio::test]
async fn never_more_than_the_limit_and_nearly_all_of_it() {
    let rates = Rates::new(limits("1000/2000", "1000/2000", "100000/1000000"), None);
    // Twice as fast as allowed, for ten seconds.
    let mut all = 0;
    for _ in 0..10_000 {
        all += served(&rates, HERE, None, 1, 2).await;
        rates.inner.time.pass(Duration::from_millis(1));
    }
    assert!((11_900..=12_000).contains(&all), "{all}");
}

#[tokio::test]
async fn whoever_keeps_below_the_limit_is_never_refused() {
    let rates = Rates::new(limits("100/200", "100/200", "100000/1000000"), None);
    for pause in [11, 13, 40, 300, 999, 1_500] {
        for _ in 0..300 {
            assert_eq!(served(&rates, HERE, Some(somebody(1)), 1, 1).await, 1, "{pause}");
            rates.inner.time.pass(Duration::from_millis(pause));
        }
    }
}

#[tokio::test]
async fn a_user_is_counted_wherever_they_ask_from() {
    let rates = Rates::new(limits("100/100", "1/10", "1000/10000"), None);
    let both = served(&rates, HERE, Some(somebody(1)), 1, 8).await
        + served(&rates, THERE, Some(somebody(1)), 1, 8).await;
    assert_eq!(both, 10);
    assert_eq!(served(&rates, HERE, Some(somebody(2)), 1, 8).await, 8);
}

#[tokio::test]
async fn what_costs_much_is_served_seldom() {
    let rates = Rates::new(limits("1000/1000", "1000/1000", "10/1000"), None);
    assert_eq!(served(&rates, HERE, None, 300, 10).await, 3);
    // Nobody else pays for it, and a user has an account of their own.
    assert_eq!(served(&rates, HERE, Some(somebody(1)), 300, 10).await, 3);
    // More than an account holds is a full account.
    assert_eq!(served(&rates, THERE, None, 1_000_000, 2).await, 1);
}

#[tokio::test]
async fn the_refused_are_known_before_anything_is_read() {
    let rates = Rates::new(limits("1/2", "1000/1000", "1000/10000"), None);
    assert!(rates.still_refused(HERE).is_none());
    assert_eq!(served(&rates, HERE, None, 1, 3).await, 2);
    assert!(rates.still_refused(HERE).unwrap().retry_after.unwrap() <= Duration::from_secs(1));
    assert!(rates.still_refused(THERE).is_none());
    rates.inner.time.pass(Duration::from_secs(1));
    assert!(rates.still_refused(HERE).is_none());
    assert_eq!(served(&rates, HERE, None, 1, 3).await, 1);
}

#[tokio::test]
async fn headers_say_what_is_left() {
    let rates = Rates::new(limits("10/50", "5/20", "100/1000"), None);
    let mut headers = HeaderMap::new();
    rates.ask(HERE, Some(somebody(1)), 10).await.write(&mut headers);
    assert_eq!(
        headers["ratelimit-policy"],
        "\"address\";q=50;w=5, \"user\";q=20;w=4, \"cost\";q=1000;w=10"
    );
    assert_eq!(
        headers["ratelimit"],
        "\"address\";r=49;t=1, \"user\";r=19;t=1, \"cost\";r=990;t=1"
    );
}
