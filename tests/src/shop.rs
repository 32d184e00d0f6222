//! A shop to test: a process of Kontor on a database of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kontor::runtime::{MIRRORS, Runtime};
use kontor_domain::{Order, OrderCommand, OrderId, OrderItem, Product, ProductId, User, UserCommand, UserId};
use kontor_eventstore::{
    Actor, CommandContext, DeadLetter, ExecuteError, KeyEncryption, Outcome, Resumed, Store, Stored,
    StreamKey, checkpoint, dead_letters, read,
};
use kontor_projections::best_sellers::BestSellerMirror;
use kontor_projections::cards::ProductCardMirror;
use kontor_projections::orders::OrderRow;
use kontor_projections::products::ProductRow;
use kontor_projections::statuses::OrderStatusMirror;
use kontor_projections::verify::{self, Verdict};
use kontor_projections::{orders, products, views};
use sqlx::PgPool;
use tempfile::TempDir;

use crate::builders::{Item, ProductBuilder};
use crate::database::Database;
use crate::examples::{address, line};
use crate::wait::{PATIENCE, eventually};

mod opening;

pub use opening::Opening;

/// The key-encryption key of every test, so that its other processes have it too.
pub const KEK: &str = "c2l4dGVlbiBib3R0bGVzIG9mIHJlZCBpbmsgYW5kIG0=";

/// [`KEK`], ready for use.
#[must_use]
pub fn keys() -> KeyEncryption {
    KeyEncryption::new(KEK, []).unwrap()
}

/// Where a shop and its branches are.
#[derive(Debug)]
struct Place {
    database_url: String,
    redis_url: String,
    outbox: TempDir,
    journal: PathBuf,
    /// What outlives the database.
    _kept: TempDir,
    /// Whether dead letters may be left.
    parking: AtomicBool,
}

/// A process of Kontor. What it can be asked for is on [`Runtime`]; what it is told, here.
pub struct Shop {
    /// The log.
    pub store: Store,
    /// Postgres.
    pub pool: PgPool,
    /// The process.
    pub runtime: Runtime,
    /// Whether it follows the log itself.
    works: bool,
    place: Arc<Place>,
    database: Option<Database>,
    unfinished: Unfinished,
}

/// Reminds a test of [`Shop::finish`].
struct Unfinished(bool);

impl Drop for Unfinished {
    fn drop(&mut self) {
        assert!(
            !self.0 || std::thread::panicking(),
            "a test ends with `shop.finish().await`, and a branch with `close`: they check what is left behind"
        );
    }
}

impl Shop {
    /// A shop with workers on a fresh database.
    pub async fn start() -> Self {
        Opening::default().open().await
    }

    /// A shop on a fresh database that nobody works in: commands are taken and stay where they are.
    pub async fn quiet() -> Self {
        Opening::default().quiet().open().await
    }

    fn of(runtime: Runtime, place: Arc<Place>, works: bool, database: Option<Database>) -> Self {
        Self {
            store: runtime.store.clone(),
            pool: runtime.pool().clone(),
            runtime,
            works,
            place,
            database,
            unfinished: Unfinished(true),
        }
    }

    /// Another process on the same log, which shares nothing with this one but Postgres and Redis.
    pub async fn branch(&self, opening: Opening) -> Self {
        opening.in_place(Arc::clone(&self.place), None).await
    }

    /// `DATABASE_URL` of this shop.
    #[must_use]
    pub fn database_url(&self) -> &str {
        &self.place.database_url
    }

    /// `REDIS_URL` of this shop.
    #[must_use]
    pub fn redis_url(&self) -> &str {
        &self.place.redis_url
    }

    /// The folder of what was sent, if nobody carries it.
    #[must_use]
    pub fn outbox(&self) -> &Path {
        self.place.outbox.path()
    }

    /// The file that says who was erased.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.place.journal.clone()
    }

    /// What is in the database now, as another one.
    pub async fn backup(&self) -> Database {
        Database::copy_of(self.database_url()).await
    }

    /// Dead letters may be left at the end.
    pub fn may_park(&self) {
        self.place.parking.store(true, Ordering::Relaxed);
    }

    /// Ends this process cleanly, and nothing else.
    pub async fn close(mut self) {
        self.unfinished.0 = false;
        self.runtime.close().await;
    }

    /// Ends the test: waits for the workers, proves that nothing is parked and that every view and mirror is as the log
    /// says, and removes the database.
    pub async fn finish(mut self) {
        if self.works {
            self.caught_up().await;
            self.views_are_true().await;
        }
        if !self.place.parking.load(Ordering::Relaxed) {
            assert_eq!(self.dead_letters().await, [], "dead letters are left");
        }
        self.forget_redis().await;
        self.unfinished.0 = false;
        self.runtime.close().await;
        if let Some(database) = &self.database {
            database.remove().await;
        }
    }

    /// Waits until every consumer and mirror has come to the head of the log and the head stays. As the order process
    /// moves its checkpoint only behind the commands it has sent, nothing is under way then.
    pub async fn caught_up(&self) {
        eventually(
            "every consumer and mirror reaches the head of the log",
            async || {
                let head = read::head(&self.pool).await.ok()?;
                let at = checkpoint::checkpoints(&self.pool).await.ok()?;
                let behind = |name: &str| {
                    at.iter()
                        .find(|it| it.consumer == name)
                        .is_none_or(|it| it.position < head)
                };
                (!self.followers().iter().any(|name| behind(name))).then_some(())
            },
        )
        .await;
        // And this process knows, for whoever reads through it.
        let head = read::head(&self.pool).await.unwrap();
        for name in self.followers() {
            self.runtime.progress.reach(name, head, PATIENCE).await.unwrap();
        }
    }

    /// Waits until Redis itself has what it was told. Killed, it forgets its last second, and what was reported of a mirror is
    /// ahead of it until the mirror has noticed.
    pub async fn redis_caught_up(&self) {
        let head = read::head(&self.pool).await.unwrap();
        for mirror in MIRRORS {
            eventually("Redis has what it was told", async || {
                let position = self.runtime.redis.position(mirror).await.ok()??;
                (position >= head).then_some(())
            })
            .await;
        }
    }

    /// The names of all that follows the log.
    #[must_use]
    pub fn followers(&self) -> Vec<&'static str> {
        self.runtime
            .consumers()
            .iter()
            .map(|it| it.name())
            .chain(MIRRORS)
            .collect()
    }

    /// What `kontor verify` finds: in Postgres, then in Redis.
    pub async fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = self.view_verdicts().await;
        verdicts.extend(self.mirror_verdicts().await);
        verdicts
    }

    /// What `kontor verify` finds in Postgres.
    pub async fn view_verdicts(&self) -> Vec<Verdict> {
        verify::verify(&self.pool, &views(), |_, _| {}).await.unwrap()
    }

    /// What `kontor verify` finds in Redis. It looks again and again for some seconds if there is a difference.
    pub async fn mirror_verdicts(&self) -> [Verdict; 3] {
        let redis = &self.runtime.redis;
        let (cards, statuses, sellers) = tokio::join!(
            verify::verify_mirror::<ProductCardMirror>(&self.pool, redis),
            verify::verify_mirror::<OrderStatusMirror>(&self.pool, redis),
            verify::verify_mirror::<BestSellerMirror>(&self.pool, redis),
        );
        [cards.unwrap(), statuses.unwrap(), sellers.unwrap()]
    }

    /// Every view is, row by row, what the log makes of it.
    pub async fn views_are_true(&self) {
        for verdict in self.verdicts().await {
            assert_eq!(
                verdict.differences,
                [],
                "view {} is not as the log says",
                verdict.view
            );
            assert_eq!(verdict.different, 0, "view {}", verdict.view);
            assert_eq!(verdict.behind, None, "mirror {} was not compared", verdict.view);
        }
    }

    /// What is parked.
    pub async fn dead_letters(&self) -> Vec<DeadLetter> {
        dead_letters::list(&self.pool).await.unwrap()
    }

    /// Applies what waits of an aggregate behind a consumer, as `kontor resume` does.
    pub async fn resume(&self, consumer: &str, stream: &StreamKey) -> Resumed {
        let consumers = self.runtime.consumers();
        let consumer = consumers
            .iter()
            .find(|it| it.name() == consumer)
            .expect("a consumer of that name");
        self.runtime.resume(consumer.as_ref(), stream).await.unwrap()
    }

    /// A context of a member of staff, at the present time.
    #[must_use]
    pub fn context(&self) -> CommandContext {
        let id = self.store.ids().next();
        CommandContext::new(
            format!("cmd_{id}"),
            Actor::System("tests"),
            self.runtime.clock.now(),
        )
    }

    /// Sends a command and hears what came of it.
    pub async fn try_send<A: Stored>(
        &self,
        id: A::Id,
        command: A::Command,
    ) -> Result<Outcome<A>, ExecuteError<A::Error>> {
        self.store.execute::<A>(id, command, self.context()).await
    }

    /// Sends a command that is taken.
    pub async fn send<A: Stored>(&self, id: A::Id, command: A::Command) -> Outcome<A> {
        let told = format!("{command:?}");
        self.try_send::<A>(id, command)
            .await
            .unwrap_or_else(|error| panic!("{told}: {error}"))
    }

    /// A product to create.
    pub fn product(&self, sku: &str) -> ProductBuilder<'_> {
        ProductBuilder::new(self, sku)
    }

    /// A registered customer with an e-mail address of their own.
    pub async fn customer(&self) -> UserId {
        let id = UserId::from_ulid(self.store.ids().next());
        self.register(id, &format!("{id}@example.com")).await.unwrap();
        id
    }

    /// Registers somebody.
    pub async fn register(
        &self,
        id: UserId,
        email: &str,
    ) -> Result<Outcome<User>, ExecuteError<kontor_domain::UserError>> {
        let register = UserCommand::Register {
            email: email.parse::<kontor_domain::Email>().unwrap().into(),
            name: "A Customer".parse::<kontor_domain::PersonName>().unwrap().into(),
            phone: None,
            password_hash: None,
        };
        self.try_send::<User>(id, register).await
    }

    /// The command that places an order.
    #[must_use]
    pub fn placing(&self, customer_id: UserId, items: &[(&Item, u32)]) -> OrderCommand {
        let items: Vec<OrderItem> = items
            .iter()
            .map(|(item, quantity)| line(item, *quantity))
            .collect();
        OrderCommand::Place {
            customer_id,
            items,
            shipping_address: address(),
            payment: None,
        }
    }

    /// Places an order.
    pub async fn order(&self, customer_id: UserId, items: &[(&Item, u32)]) -> OrderId {
        let id = OrderId::from_ulid(self.store.ids().next());
        let placing = self.placing(customer_id, items);
        self.store
            .create::<Order>(id, placing, self.context())
            .await
            .unwrap();
        id
    }

    /// Places so many orders of the same, all at once.
    pub async fn rush(&self, customer_id: UserId, items: &[(&Item, u32)], orders: usize) -> Vec<OrderId> {
        futures::future::join_all((0..orders).map(|_| self.order(customer_id, items))).await
    }

    /// Staff ship an order.
    pub async fn ship(&self, id: OrderId) -> Outcome<Order> {
        let ship = OrderCommand::Ship {
            tracking_number: "TRACK-1".parse().unwrap(),
            carrier: None,
        };
        self.send::<Order>(id, ship).await
    }

    /// An order as the view has it.
    pub async fn order_row(&self, id: OrderId) -> OrderRow {
        let mut rows = orders::by_ids(&self.pool, &[id.to_string()]).await.unwrap();
        rows.pop().unwrap_or_else(|| panic!("{id} is not in the view"))
    }

    /// A product as the view has it.
    pub async fn product_row(&self, id: ProductId) -> ProductRow {
        let mut rows = products::by_ids(&self.pool, &[id.to_string()]).await.unwrap();
        rows.pop().unwrap_or_else(|| panic!("{id} is not in the view"))
    }

    /// Stock as the log has it: on hand, reserved.
    pub async fn stock(&self, id: ProductId) -> (u64, u64) {
        let look = |product: &Product, _| (product.on_hand(), product.reserved());
        self.store.inspect::<Product, _>(id, look).await.unwrap()
    }

    /// Waits until an order has come to a status in the view.
    pub async fn until_status(&self, id: OrderId, status: &str) -> OrderRow {
        eventually(&format!("{id} becomes {status}"), async || {
            let rows = orders::by_ids(&self.pool, &[id.to_string()]).await.unwrap();
            rows.into_iter().find(|row| row.status == status)
        })
        .await
    }
}

/// What Kontor logs is shown when a test fails, and looked through behind the run; `RUST_LOG` says how much, by default what
/// `kontor run` does.
fn log_to_the_test() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,sqlx=warn"));
    // Another shop of this test may have done so.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_test_writer()
        .try_init();
}
