//! Placing an order: what shops do all day.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use async_graphql::{Context, Object, Result};
use kontor_domain::order::{MAX_ITEMS, total};
use kontor_domain::{
    Address, Money, Order as Aggregate, OrderCommand, OrderId, OrderItem, PaymentMethodId,
    PaymentMethodToken, Personal, ProductId, Quantity, User, UserId,
};
use kontor_eventstore::CommandContext;
use kontor_projections::offers::Offer;
use kontor_projections::products::Products;
use kontor_projections::view::View;

use super::inputs::PlaceOrderInput;
use super::mutations::OrderPayload;
use super::payment::PaymentMethodInput;
use crate::graphql::access::{Permission, require};
use crate::graphql::command::{OrderOutcome, Ready, create};
use crate::graphql::error::internal;
use crate::graphql::input::{Check, INPUT, Refusal};
use crate::graphql::products::product_not_found;
use crate::graphql::reads::{app, settled};
use crate::graphql::scalars::CurrencyCode;
use crate::graphql::user_errors::{
    MixedCurrencies, PaymentRequired, PriceChanged, ProductNotForSale, UserError, refusals,
};
use crate::graphql::users::payment_method_not_found;

refusals! {
    /// Why `placeOrder` did nothing.
    PlaceOrderError: InvalidInput, IdempotencyKeyReused, ProductNotFound, ProductNotForSale, MixedCurrencies,
        PriceChanged, TooManyPieces, PaymentRequired, PaymentMethodNotFound;
}

/// The mutation that places orders.
#[derive(Debug, Default)]
pub(crate) struct PlaceOrderMutation;

#[Object]
impl PlaceOrderMutation {
    /// Places an order in your own name, at the prices of now. For everybody who is logged in.
    ///
    /// The order is taken at once as `PENDING`, and whether there is enough stock is decided right after, in the order in which
    /// orders came; then the payment is authorised. It becomes `CONFIRMED`, or `REJECTED` with a timeline entry that says of which
    /// product how many were asked for and how many there were, or why the payment was declined. So neither too little stock nor too
    /// little money is ever an error here; follow the order with `orderUpdates`.
    /// Needs `order:place`.
    async fn place_order(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What is ordered, where it goes, and how it is paid.")] input: PlaceOrderInput,
    ) -> Result<OrderPayload<PlaceOrderError>> {
        let customer = require(ctx, Permission::OrderPlace)?.user_id;
        OrderPayload::of(ctx, place(ctx, customer, input).await)
    }
}

/// What is asked for, before anything is known of the products.
struct Wanted {
    items: Vec<(ProductId, Quantity)>,
    shipping_address: Personal<Address>,
    expected_total: Option<Money>,
    means: Option<Means>,
}

/// How it is to be paid.
enum Means {
    Token(PaymentMethodToken),
    Saved(PaymentMethodId),
}

async fn place(
    ctx: &Context<'_>,
    customer_id: UserId,
    input: PlaceOrderInput,
) -> Result<OrderOutcome, Refusal> {
    let mut check = Check::default();
    let context = check.context(ctx, "placeOrder", &input, &input.idempotency_key);
    let wanted = wanted(&mut check, &input);
    let (Some(context), Some(wanted), false) = (context, wanted, check.failed()) else {
        return Err(check.refusal());
    };
    let key = input.idempotency_key;
    let id = OrderId::from_ulid(app(ctx).store.ids().next());
    let priced = match priced(ctx, &wanted).await? {
        Ok(items) => {
            let payment = payment(ctx, customer_id, wanted.means, &items).await?;
            payment.map(|payment| (items, payment))
        }
        Err(errors) => Err(errors),
    };
    match priced {
        Ok((items, payment)) => {
            let command = OrderCommand::Place {
                customer_id,
                items,
                shipping_address: wanted.shipping_address,
                payment,
            };
            let ready = Ready::<Aggregate> {
                id,
                command,
                context,
                key,
            };
            create(ctx, ready).await
        }
        Err(errors) => unless_placed(ctx, id, context, key, errors).await,
    }
}

fn wanted(check: &mut Check, input: &PlaceOrderInput) -> Option<Wanted> {
    let at = INPUT.field("items");
    check.length(at, &input.items, 1, MAX_ITEMS);
    let mut items = Vec::with_capacity(input.items.len().min(MAX_ITEMS));
    for (index, item) in input.items.iter().enumerate().take(MAX_ITEMS) {
        let at = at.index(index);
        let product_id = check.id(at.field("productId"), &item.product_id);
        let quantity = check.quantity(at.field("quantity"), item.quantity);
        items.extend(product_id.zip(quantity));
    }
    let shipping_address = input
        .shipping_address
        .parse(check, INPUT.field("shippingAddress"));
    let expected_total = input
        .expected_total
        .map(|amount| check.amount(INPUT.field("expectedTotal"), amount));
    let means = input.payment.as_ref().map(|payment| means(check, payment));
    Some(Wanted {
        items,
        shipping_address: shipping_address?,
        expected_total: expected_total.flatten(),
        means: means.flatten(),
    })
}

fn means(check: &mut Check, payment: &PaymentMethodInput) -> Option<Means> {
    let at = INPUT.field("payment");
    match payment {
        PaymentMethodInput::Token(token) => check.text(at.field("token"), token).map(Means::Token),
        PaymentMethodInput::SavedMethod(id) => check.id(at.field("savedMethod"), id).map(Means::Saved),
    }
}

/// By which token the items are paid; none if they cost nothing, or are delivered on account. The outer error is ours.
async fn payment(
    ctx: &Context<'_>,
    customer_id: UserId,
    means: Option<Means>,
    items: &[OrderItem],
) -> Result<Result<Option<Personal<PaymentMethodToken>>, Vec<UserError>>> {
    // Sums that do not fit are the aggregate's to refuse.
    let due = total(items).ok().filter(|total| total.amount_minor() > 0);
    let at = INPUT.field("payment");
    let token = match (means, due) {
        (_, None) => return Ok(Ok(None)),
        (None, Some(_)) if app(ctx).unpaid_orders => return Ok(Ok(None)),
        (None, Some(total)) => {
            let message = "the order has to be paid: say how";
            return Ok(Err(vec![
                PaymentRequired::new(message, at.path(), total.into()).into(),
            ]));
        }
        (Some(Means::Token(token)), _) => return Ok(Ok(Some(Personal::new(token)))),
        // As the log has it: it may have been saved or removed by another process a moment ago.
        (Some(Means::Saved(id)), _) => {
            let store = &app(ctx).store;
            let token = store.inspect::<User, _>(customer_id, |user, _| user.payment_token(id).cloned());
            (id, token.await.map_err(|error| internal(ctx, error))?)
        }
    };
    let (id, token) = token;
    let missing = || vec![payment_method_not_found(id, at.field("savedMethod").path())];
    Ok(token.map(Some).ok_or_else(missing))
}

/// The items with the names and prices of now, or why they cannot be ordered. The outer error is ours.
async fn priced(ctx: &Context<'_>, wanted: &Wanted) -> Result<Result<Vec<OrderItem>, Vec<UserError>>> {
    let ids: BTreeSet<ProductId> = wanted.items.iter().map(|(id, _)| *id).collect();
    let all = || async {
        let offers = offers(ctx, &ids).await?;
        Ok((offers.len() == ids.len()).then_some(offers))
    };
    // A product may be so new that the view does not have it yet.
    let offers = match settled(ctx, Products::NAME, all).await? {
        Some(offers) => offers,
        None => offers(ctx, &ids).await?,
    };
    let errors = not_for_sale(&wanted.items, &offers);
    if !errors.is_empty() {
        return Ok(Err(errors));
    }
    let items = wanted
        .items
        .iter()
        .filter_map(|(id, quantity)| Some(item(offers.get(id)?, *id, *quantity)))
        .collect::<Vec<_>>();
    Ok(match refused_price(&items, wanted.expected_total) {
        Some(error) => Err(vec![error]),
        None => Ok(items),
    })
}

fn not_for_sale(items: &[(ProductId, Quantity)], offers: &HashMap<ProductId, Arc<Offer>>) -> Vec<UserError> {
    let at = INPUT.field("items");
    let mut errors = Vec::new();
    for (index, (id, _)) in items.iter().enumerate() {
        let path = || at.index(index).field("productId").path();
        match offers.get(id) {
            None => errors.push(product_not_found(*id, path())),
            Some(offer) if !offer.listed => {
                let message = "the product is not sold any more";
                errors.push(ProductNotForSale::new(message, path(), id.to_string().into()).into());
            }
            Some(_) => {}
        }
    }
    errors
}

async fn offers(ctx: &Context<'_>, ids: &BTreeSet<ProductId>) -> Result<HashMap<ProductId, Arc<Offer>>> {
    let offers = app(ctx).offers.get(ids.iter().copied()).await;
    offers.map_err(|error| internal(ctx, error))
}

/// An item as of now.
fn item(offer: &Offer, product_id: ProductId, quantity: Quantity) -> OrderItem {
    OrderItem {
        product_id,
        sku: offer.sku.clone(),
        name: offer.name.clone(),
        unit_price: offer.price,
        quantity,
    }
}

/// Several currencies, or another total than the shopper saw.
fn refused_price(items: &[OrderItem], expected: Option<Money>) -> Option<UserError> {
    let currencies: BTreeSet<_> = items.iter().map(|item| item.unit_price.currency()).collect();
    if currencies.len() > 1 {
        let message = "the products are priced in more than one currency";
        let currencies = currencies.into_iter().map(CurrencyCode).collect();
        return Some(MixedCurrencies::new(message, INPUT.field("items").path(), currencies).into());
    }
    // Sums that do not fit are the aggregate's to refuse.
    let actual = total(items).ok()?;
    let expected = expected.filter(|expected| *expected != actual)?;
    let message = "the items do not cost what was expected";
    let path = INPUT.field("expectedTotal").path();
    Some(PriceChanged::new(message, path, expected.into(), actual.into()).into())
}

/// Refuses, unless this is the repeat of an order that was taken when prices and products were others: then its answer is
/// given again.
async fn unless_placed(
    ctx: &Context<'_>,
    id: OrderId,
    context: CommandContext,
    key: String,
    errors: Vec<UserError>,
) -> Result<OrderOutcome, Refusal> {
    // The store answers a known key before it refuses. Nothing was placed under a fresh id, so nothing can be delivered.
    let command = OrderCommand::Deliver;
    let ready = Ready::<Aggregate> {
        id,
        command,
        context,
        key,
    };
    let not_found = |error: &UserError| matches!(error, UserError::OrderNotFound(_));
    match create(ctx, ready).await {
        Err(Refusal::User(told)) if told.iter().any(not_found) => Err(Refusal::User(errors)),
        told => told,
    }
}

#[cfg(test)]
mod tests {
    use kontor_domain::{ProductName, Sku};

    use super::*;

    fn item(amount: i64, currency: &str) -> OrderItem {
        OrderItem {
            product_id: ProductId::from_ulid(ulid::Ulid::from_parts(1, 1)),
            sku: Sku::new("A1").unwrap(),
            name: ProductName::new("A").unwrap(),
            unit_price: Money::new(amount, currency.parse().unwrap()).unwrap(),
            quantity: Quantity::new(2).unwrap(),
        }
    }

    #[test]
    fn a_shopper_never_pays_another_price_than_they_saw() {
        let items = [item(100, "GBP")];
        let gbp = |amount| Money::new(amount, "GBP".parse().unwrap()).unwrap();
        assert!(refused_price(&items, None).is_none());
        assert!(refused_price(&items, Some(gbp(200))).is_none());
        for wrong in [199, 201] {
            let refused = refused_price(&items, Some(gbp(wrong)));
            assert!(matches!(refused, Some(UserError::PriceChanged(_))), "{wrong}");
        }
        let mixed = refused_price(&[item(1, "GBP"), item(1, "EUR")], None);
        assert!(matches!(mixed, Some(UserError::MixedCurrencies(_))));
    }
}
