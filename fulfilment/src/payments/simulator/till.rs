//! Where payments are opened: what arrives together is written together.
//!
//! One statement, in one transaction, for everything that waits; never a wait for more. With many authorisations at once
//! that costs a fraction of a transaction each, which matters to whoever shares the machine with the bank.

use std::collections::{HashMap, HashSet};

use kontor_domain::{Money, PaymentStatus};
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::{mpsc, oneshot};

use super::books::{broken, connection, key_reused};
use super::movement::check;
use super::payment::{Payment, Row};
use crate::payments::gateway::{Authorise, GatewayError};

/// The most payments opened by one statement.
const GROUP: usize = 512;

/// A payment that is to be opened.
pub(super) struct Opening {
    key: String,
    reference: String,
    order_id: String,
    method: String,
    status: &'static str,
    decline_reason: Option<String>,
    amount: Money,
}

impl Opening {
    pub(super) fn new(
        request: &Authorise,
        reference: String,
        outcome: PaymentStatus,
    ) -> Result<Self, GatewayError> {
        check(&request.key, &request.order_id, Some(request.amount))?;
        let (status, reason) = match outcome {
            PaymentStatus::Declined(reason) => ("DECLINED", Some(reason)),
            PaymentStatus::RequiresAction => ("REQUIRES_ACTION", None),
            _ => ("AUTHORISED", None),
        };
        let reason = reason.map(serde_json::to_value).transpose();
        let reason = reason.map_err(|error| GatewayError::refused("parameter_invalid", error.to_string()))?;
        Ok(Self {
            key: request.key.clone(),
            reference,
            order_id: request.order_id.clone(),
            method: request.method.as_str().to_owned(),
            status,
            decline_reason: reason.and_then(|it| it.as_str().map(str::to_owned)),
            amount: request.amount,
        })
    }

    fn row(&self) -> Row {
        Row {
            reference: self.reference.clone(),
            order_id: self.order_id.clone(),
            status: self.status.to_owned(),
            decline_reason: self.decline_reason.clone(),
            currency: self.amount.currency().to_string(),
            amount_minor: self.amount.amount_minor(),
            authorised_minor: if self.status == "AUTHORISED" {
                self.amount.amount_minor()
            } else {
                0
            },
            captured_minor: 0,
            refunded_minor: 0,
            version: 1,
        }
    }
}

/// A payment that is open.
pub(super) struct Opened {
    pub(super) payment: Payment,
    /// It was not there before.
    pub(super) fresh: bool,
}

type Reply = oneshot::Sender<Result<Opened, GatewayError>>;

/// The counter, with somebody behind it.
pub(super) struct Till {
    queue: mpsc::Sender<(Opening, Reply)>,
}

impl Till {
    pub(super) fn open(pool: PgPool, webhooks: bool, public_url: String) -> Self {
        let (queue, asked) = mpsc::channel(4 * GROUP);
        let teller = Teller {
            pool,
            webhooks,
            public_url,
            connection: None,
        };
        tokio::spawn(teller.serve(asked));
        Self { queue }
    }

    pub(super) async fn open_payment(&self, opening: Opening) -> Result<Opened, GatewayError> {
        let (reply, answer) = oneshot::channel();
        self.queue
            .send((opening, reply))
            .await
            .map_err(|_| GatewayError::Unreachable("it has closed".to_owned()))?;
        answer
            .await
            .unwrap_or_else(|_| Err(GatewayError::Unknown("it has closed".to_owned())))
    }
}

struct Teller {
    pool: PgPool,
    webhooks: bool,
    public_url: String,
    /// Kept: to borrow one each time costs two round trips.
    connection: Option<PoolConnection<Postgres>>,
}

impl Teller {
    async fn serve(mut self, mut asked: mpsc::Receiver<(Opening, Reply)>) {
        let mut group = Vec::with_capacity(GROUP);
        while asked.recv_many(&mut group, GROUP).await > 0 {
            // Two tellers with the same keys lock them in the same order, and so never each other.
            group.sort_by(|(one, _), (other, _)| one.key.cmp(&other.key));
            let (openings, replies): (Vec<Opening>, Vec<Reply>) = group.drain(..).unzip();
            match self.open_all(&openings).await {
                Ok(opened) => {
                    for (reply, opened) in replies.into_iter().zip(opened) {
                        // Nobody waits any more: they will ask again.
                        let _ = reply.send(opened);
                    }
                }
                Err(error) => {
                    self.connection = None;
                    for reply in replies {
                        let _ = reply.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Opens what is new, and finds what was opened before with the same key.
    async fn open_all(
        &mut self,
        openings: &[Opening],
    ) -> Result<Vec<Result<Opened, GatewayError>>, GatewayError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connection(&self.pool).await?),
        };
        let mut opened = insert(connection, openings, self.webhooks)
            .await
            .map_err(broken)?;
        // Some key was here before, or came twice in this group.
        let before = if opened.len() == openings.len() {
            HashMap::new()
        } else {
            let keys: Vec<&str> = openings.iter().map(|it| it.key.as_str()).collect();
            opened_before(connection, &keys).await.map_err(broken)?
        };
        let answers = openings.iter().map(|opening| {
            if opened.remove(&opening.key) {
                let payment = opening.row().payment(&self.public_url)?;
                return Ok(Opened { payment, fresh: true });
            }
            let first = before
                .get(&opening.key)
                .ok_or_else(|| GatewayError::Unknown("its books have lost a payment".to_owned()))?;
            first.answer(opening, &self.public_url)
        });
        Ok(answers.collect())
    }
}

/// What was opened, by key.
async fn insert(
    connection: &mut PoolConnection<Postgres>,
    openings: &[Opening],
    webhooks: bool,
) -> Result<HashSet<String>, sqlx::Error> {
    let text = |of: fn(&Opening) -> &str| -> Vec<&str> { openings.iter().map(of).collect() };
    let currencies: Vec<String> = openings
        .iter()
        .map(|it| it.amount.currency().to_string())
        .collect();
    let reasons: Vec<Option<&str>> = openings.iter().map(|it| it.decline_reason.as_deref()).collect();
    let amounts: Vec<i64> = openings.iter().map(|it| it.amount.amount_minor()).collect();
    let rows = sqlx::query!(
        r#"WITH opened AS (
             INSERT INTO simulator.payments
                 (key, reference, order_id, method, opened_as, status, decline_reason, currency, amount_minor,
                  authorised_minor, webhook_due)
             SELECT key, reference, order_id, method, status, status, decline_reason, currency, amount,
                    CASE status WHEN 'AUTHORISED' THEN amount ELSE 0 END, $9
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                         $8::bigint[])
                  AS asked(key, reference, order_id, method, status, decline_reason, currency, amount)
             ON CONFLICT (key) DO NOTHING
             RETURNING key, reference, order_id, status, currency, amount_minor
           ), entered AS (
             INSERT INTO simulator.ledger
                 (kind, key, reference, order_id, amount_minor, currency, captured_after, refunded_after)
             SELECT 'AUTHORISE', key, reference, order_id, amount_minor, currency, 0, 0
             FROM opened WHERE status = 'AUTHORISED'
           )
           SELECT key AS "key!" FROM opened"#,
        &text(|it| &it.key) as &[&str],
        &text(|it| &it.reference) as &[&str],
        &text(|it| &it.order_id) as &[&str],
        &text(|it| &it.method) as &[&str],
        &text(|it| it.status) as &[&str],
        &reasons as &[Option<&str>],
        &currencies,
        &amounts,
        webhooks
    )
    .fetch_all(&mut **connection)
    .await?;
    Ok(rows.into_iter().map(|row| row.key).collect())
}

/// A payment that is there, as it was opened.
struct First {
    row: Row,
    method: String,
}

impl First {
    /// The first answer again, if it is the same question.
    fn answer(&self, opening: &Opening, public_url: &str) -> Result<Opened, GatewayError> {
        let same = self.row.order_id == opening.order_id
            && self.method == opening.method
            && self.row.currency == opening.amount.currency().as_str()
            && self.row.amount_minor == opening.amount.amount_minor();
        if !same {
            return Err(key_reused());
        }
        let payment = self.row.clone().payment(public_url)?;
        Ok(Opened {
            payment,
            fresh: false,
        })
    }
}

async fn opened_before(
    connection: &mut PoolConnection<Postgres>,
    keys: &[&str],
) -> Result<HashMap<String, First>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT key, reference, order_id, method, opened_as, decline_reason, currency, amount_minor, version
         FROM simulator.payments WHERE key = ANY($1)",
        keys as &[&str]
    )
    .fetch_all(&mut **connection)
    .await?;
    let firsts = rows.into_iter().map(|row| {
        let held = row.opened_as == "AUTHORISED";
        let first = First {
            row: Row {
                reference: row.reference,
                order_id: row.order_id,
                // Also where it was declined later, by the customer's bank.
                decline_reason: row.decline_reason.filter(|_| row.opened_as == "DECLINED"),
                status: row.opened_as,
                currency: row.currency,
                amount_minor: row.amount_minor,
                authorised_minor: if held { row.amount_minor } else { 0 },
                captured_minor: 0,
                refunded_minor: 0,
                version: row.version,
            },
            method: row.method,
        };
        (row.key, first)
    });
    Ok(firsts.collect())
}
