//! Where customers and staff are served: a process that takes their wishes over the socket and puts them to the log.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use kontor::runtime::Runtime;
use kontor_domain::{Money, Order, OrderCommand, OrderId, OrderItem, ReturnLine, UserId};
use kontor_eventstore::{Actor, CommandContext, ExecuteError, IdempotencyKey};
use kontor_fulfilment::payments::DeskError;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::examples::{address, pieces, reason};
use crate::paying::look_up;

/// What somebody wants of an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Wish {
    Place {
        customer: UserId,
        items: Vec<OrderItem>,
        token: Option<String>,
    },
    Cancel,
    Ship,
    Deliver,
    /// One piece of the first line comes back.
    GiveBack {
        refund: Money,
        restock: bool,
    },
    Refund {
        amount: Money,
    },
    /// The customer is back from their bank.
    LookUp,
}

/// A wish, under a key that makes it come true once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) key: String,
    pub(super) order: OrderId,
    pub(super) wish: Wish,
}

/// The answer; a wish that can be put again later is answered 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    Refused(String),
}

/// Serves on that port until the process ends.
///
/// # Errors
/// When the port is taken.
pub async fn serve(runtime: Runtime, port: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let router = Router::new()
        .route("/", post(answer))
        .with_state(Arc::new(runtime));
    axum::serve(listener, router).await?;
    Ok(())
}

async fn answer(
    State(runtime): State<Arc<Runtime>>,
    Json(asked): Json<Asked>,
) -> Result<Json<Answer>, (StatusCode, String)> {
    let later = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why);
    let id = asked.order;
    let key = IdempotencyKey::derived("chaos", &asked.key, "once");
    let context = CommandContext::new(asked.key, Actor::System("chaos"), runtime.clock.now());
    let command = match asked.wish {
        Wish::LookUp => {
            let told = look_up(&runtime, id, context).await;
            return match told {
                Ok(_) => Ok(Json(Answer::Done)),
                Err(DeskError::Refused(error)) => Ok(Json(Answer::Refused(error.to_string()))),
                Err(error) => Err(later(error.to_string())),
            };
        }
        Wish::Place {
            customer,
            items,
            token,
        } => OrderCommand::Place {
            customer_id: customer,
            items,
            shipping_address: address(),
            payment: match token.map(|it| it.parse()) {
                None => None,
                Some(Ok(token)) => Some(token),
                Some(Err(_)) => return Err((StatusCode::BAD_REQUEST, "no such token".to_owned())),
            },
        },
        Wish::Cancel => OrderCommand::Cancel {
            reason: reason("second thoughts"),
        },
        Wish::Ship => OrderCommand::Ship {
            tracking_number: "TRACK-1".parse().unwrap(),
            carrier: None,
        },
        Wish::Deliver => OrderCommand::Deliver,
        Wish::GiveBack { refund, restock } => OrderCommand::ReturnItems {
            lines: vec![ReturnLine {
                line: 0,
                quantity: pieces(1),
            }],
            refund,
            reason: reason("unwanted"),
            restock,
        },
        Wish::Refund { amount } => OrderCommand::Refund {
            amount,
            reason: reason("scratched"),
        },
    };
    match runtime
        .store
        .execute::<Order>(id, command, context.once(key))
        .await
    {
        Ok(_) => Ok(Json(Answer::Done)),
        Err(ExecuteError::Refused(error)) => Ok(Json(Answer::Refused(error.to_string()))),
        Err(error @ (ExecuteError::Unavailable(_) | ExecuteError::Contended { .. })) => {
            Err(later(error.to_string()))
        }
        Err(error) => Err((StatusCode::BAD_REQUEST, error.to_string())),
    }
}
