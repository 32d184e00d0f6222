//! Relay connections over keyset cursors, and the cursors of subscriptions.

use async_graphql::{OutputType, Result, SimpleObject};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::audit::AuditEntry;
use super::error::bad_user_input;
use super::orders::Order;
use super::products::Product;
use super::sales::SalesHour;
use super::users::User;

/// Nodes on a page when the client does not say.
const DEFAULT_FIRST: i32 = 20;
/// Nodes on a page at most.
const MAX_FIRST: i32 = 100;

/// A page of a list. Pages go forward: ask again with `after: pageInfo.endCursor` while `pageInfo.hasNextPage`.
#[derive(Debug, SimpleObject)]
#[graphql(
    concrete(name = "ProductConnection", params(Product)),
    concrete(name = "OrderConnection", params(Order)),
    concrete(name = "UserConnection", params(User)),
    concrete(name = "SalesHourConnection", params(SalesHour)),
    concrete(name = "AuditEntryConnection", params(AuditEntry))
)]
pub(crate) struct Connection<N: OutputType>
where
    Edge<N>: OutputType,
{
    /// The nodes of this page with their cursors, in the list's order.
    edges: Vec<Edge<N>>,
    /// The nodes of this page without their cursors, in the same order.
    nodes: Vec<N>,
    /// Whether there is more, and where.
    page_info: PageInfo,
}

/// One node of a page, and where it stands in the list.
#[derive(Debug, SimpleObject)]
#[graphql(
    concrete(name = "ProductEdge", params(Product)),
    concrete(name = "OrderEdge", params(Order)),
    concrete(name = "UserEdge", params(User)),
    concrete(name = "SalesHourEdge", params(SalesHour)),
    concrete(name = "AuditEntryEdge", params(AuditEntry))
)]
pub(crate) struct Edge<N: OutputType> {
    /// Opaque; as `after`, it begins a page behind this node, also when nodes have come or gone in the meantime. Good for
    /// the list and the sort it came from only.
    cursor: String,
    /// The node.
    node: N,
}

/// Where a page stands in its list.
#[derive(Debug, SimpleObject)]
pub(crate) struct PageInfo {
    /// Whether there are nodes behind this page.
    has_next_page: bool,
    /// Whether this page began behind a cursor, so that there is at least one node before it.
    has_previous_page: bool,
    /// The cursor of the first node; null on an empty page.
    start_cursor: Option<String>,
    /// The cursor of the last node: what to ask behind for the next page; null on an empty page.
    end_cursor: Option<String>,
}

/// Which page was asked for. `K` is the key of a row in the list's order.
#[derive(Debug)]
pub(crate) struct Page<K> {
    first: u32,
    /// Behind which row, if not from the beginning.
    pub(crate) after: Option<K>,
}

impl<K: Serialize + DeserializeOwned> Page<K> {
    /// Reads `first` and `after`; `BAD_USER_INPUT` if either cannot be.
    pub(crate) fn new(first: Option<i32>, after: Option<&str>) -> Result<Self> {
        let first = first.unwrap_or(DEFAULT_FIRST);
        if !(1..=MAX_FIRST).contains(&first) {
            return Err(bad_user_input(format!(
                "first: must be between 1 and {MAX_FIRST}, not {first}"
            )));
        }
        let after = after.map(decode).transpose()?;
        Ok(Self {
            first: first.unsigned_abs(),
            after,
        })
    }

    /// How many rows to read: one more than are shown, to know whether there are more.
    pub(crate) fn limit(&self) -> i64 {
        i64::from(self.first) + 1
    }

    /// The page made of the rows that were read.
    pub(crate) fn connection<R, N>(
        &self,
        rows: Vec<R>,
        key: impl Fn(&R) -> Option<K>,
        node: impl Fn(R) -> N,
    ) -> Connection<N>
    where
        N: OutputType + Clone,
        Edge<N>: OutputType,
    {
        let first = self.first as usize;
        let has_next_page = rows.len() > first;
        let edges: Vec<Edge<N>> = rows
            .into_iter()
            .take(first)
            .map(|row| Edge {
                cursor: key(&row).map(|key| encode(&key)).unwrap_or_default(),
                node: node(row),
            })
            .collect();
        let page_info = PageInfo {
            has_next_page,
            has_previous_page: self.after.is_some(),
            start_cursor: edges.first().map(|edge| edge.cursor.clone()),
            end_cursor: edges.last().map(|edge| edge.cursor.clone()),
        };
        let nodes = edges.iter().map(|edge| edge.node.clone()).collect();
        Connection {
            edges,
            nodes,
            page_info,
        }
    }
}

fn encode(key: &impl Serialize) -> String {
    // Keys are plain structs and tuples: they always serialise.
    serde_json::to_vec(key)
        .map(|json| URL_SAFE_NO_PAD.encode(json))
        .unwrap_or_default()
}

fn decode<K: DeserializeOwned>(cursor: &str) -> Result<K> {
    let json = URL_SAFE_NO_PAD.decode(cursor).ok();
    json.and_then(|json| serde_json::from_slice(&json).ok())
        .filter(|key| !has_nul(key))
        .and_then(|key| serde_json::from_value(key).ok())
        .ok_or_else(|| bad_user_input("after: this is not a cursor of this list"))
}

/// Whether there is a U+0000 in it, which no key has and Postgres does not take.
fn has_nul(key: &Value) -> bool {
    match key {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.values().any(has_nul),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// What stands before the position in a subscription's cursor.
const UPDATES: &str = "updates:";

/// The cursor of an update: opaque outside, the log's position inside, and which log it is a position of (L11).
pub(crate) fn update_cursor(position: u64, log: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{UPDATES}{position}:{log}"))
}

/// The position in a subscription's `after`.
pub(crate) fn update_position(after: Option<&str>, log: &str) -> Result<Option<u64>> {
    let Some(cursor) = after else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap_or_default();
    let parts = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.strip_prefix(UPDATES)?.split_once(':'));
    match parts.and_then(|(position, of)| Some((position.parse().ok()?, of))) {
        Some((position, of)) if of == log => Ok(Some(position)),
        Some(_) => Err(bad_user_input(
            "after: this cursor is from before the shop's data was restored; begin again without it",
        )),
        None => Err(bad_user_input("after: this is not a cursor of a subscription")),
    }
}

#[cfg(test)]
mod tests {
    use kontor_domain::{OrderId, UserId};
    use kontor_projections::products::{ProductKey, ProductSort};

    use super::*;

    #[test]
    fn cursors_round_trip() {
        let key = ProductKey {
            sort: ProductSort::Name,
            name: "elbe \u{e4}".to_owned(),
            number: 0,
            id: "prd_1".to_owned(),
        };
        let page = Page::<ProductKey>::new(None, Some(&encode(&key))).unwrap();
        assert_eq!(page.after, Some(key));
        assert_eq!(
            update_position(Some(&update_cursor(7, "log")), "log").unwrap(),
            Some(7)
        );
        assert_eq!(update_position(None, "log").unwrap(), None);
        assert!(update_position(Some(&update_cursor(7, "log")), "another").is_err());
    }

    #[test]
    fn another_lists_cursor_is_refused() {
        let time = chrono::DateTime::UNIX_EPOCH;
        let order = OrderId::from_ulid(ulid::Ulid::from_parts(1, 1));
        let cursor = encode(&(time, order));
        assert!(Page::<(chrono::DateTime<chrono::Utc>, OrderId)>::new(None, Some(&cursor)).is_ok());
        assert!(Page::<(chrono::DateTime<chrono::Utc>, UserId)>::new(None, Some(&cursor)).is_err());
        assert!(Page::<ProductKey>::new(None, Some(&cursor)).is_err());
        assert!(update_position(Some(&cursor), "log").is_err());
        for wrong in ["", "!", "eA", &update_cursor(1, "log")] {
            assert!(Page::<ProductKey>::new(None, Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_page_has_1_to_100_nodes() {
        for wrong in [-1, 0, 101] {
            assert!(Page::<ProductKey>::new(Some(wrong), None).is_err(), "{wrong}");
        }
        assert_eq!(Page::<ProductKey>::new(None, None).unwrap().limit(), 21);
        assert_eq!(Page::<ProductKey>::new(Some(100), None).unwrap().limit(), 101);
    }
}
