//! Waiting until nothing is under way in a house, without a word to its processes.

use std::time::Instant;

use kontor::terminal::say;

use super::insist;
use crate::shop::Shop;

/// Waits until no order waits, everybody has read the log, and everybody is told.
pub(super) async fn until_quiet(shop: &Shop, started: Instant) {
    let after = |what: &str| say(format!("{what} after {} s", started.elapsed().as_secs()));
    // Whoever was frozen or armed may still hold a lease or die: until nothing waits.
    nothing_is_left(
        shop,
        "no order waits any more",
        "SELECT concat_ws(' ', order_id, step, attempts, last_error, due_at - clock_timestamp())
         FROM pending_orders ORDER BY since",
    )
    .await;
    after("no order waits");
    nothing_is_left(
        shop,
        "the shop has been told of every payment, and has dealt with it",
        "SELECT concat_ws(' ', order_id, reference) FROM simulator.payments WHERE webhook_due
         UNION ALL SELECT concat_ws(' ', order_id, reference, attempts, last_error) FROM payment_webhooks WHERE done_at IS NULL",
    )
    .await;
    shop.nothing_waits().await;
    let waiting =
        "SELECT concat_ws(' ', position, channel, attempts) FROM notifications WHERE state = 'WAITING'";
    nothing_is_left(shop, "everybody is told", waiting).await;
    let wanted = "SELECT concat_ws(' ', id, purpose, attempts) FROM account_mails";
    nothing_is_left(shop, "everybody is asked to prove their address", wanted).await;
    shop.redis_caught_up().await;
    after("it is quiet");
}

/// Looks until a query finds nothing, and says now and then what it still finds.
async fn nothing_is_left(shop: &Shop, what: &str, query: &str) {
    let mut looks = 0;
    insist(what, async || {
        let left: Vec<String> = sqlx::query_scalar(query).fetch_all(&shop.pool).await.ok()?;
        looks += 1;
        if looks % 200 == 0 {
            say(format!(
                "not yet: {what}; {} are left, such as {:?}",
                left.len(),
                left.first()
            ));
        }
        left.is_empty().then_some(())
    })
    .await;
}
