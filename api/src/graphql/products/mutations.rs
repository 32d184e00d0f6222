//! What staff do to products.

use std::num::NonZeroI32;

use async_graphql::{Context, ID, Object, OutputType, Result};
use kontor_domain::product::MAX_ON_HAND;
use kontor_domain::{
    Category, Description, MoneyError, Product as Aggregate, ProductCommand, ProductError, ProductId,
    ProductName, Reason, Sku,
};
use kontor_eventstore::CommandContext;

use super::inputs::{
    AdjustStockInput, ChangeProductCategoryInput, ChangeProductDetailsInput, ChangeProductPriceInput,
    CreateProductInput, DiscontinueProductInput, ReceiveStockInput, RelistProductInput,
};
use super::{Product, fresh};
use crate::graphql::access::{Permission, require};
use crate::graphql::command::{Answer, ProductOutcome, Ready, Refuses, create, execute, expected};
use crate::graphql::input::{Check, INPUT, Refusal};
use crate::graphql::reads::app;
use crate::graphql::scalars::{Count, CurrencyCode, Position};
use crate::graphql::user_errors::{
    CurrencyCannotChange, InputProblem, InvalidInput, ProductNotFound, StockBelowReserved, StockTooLarge,
    UserError, refusals,
};

refusals! {
    /// Why `createProduct` did nothing.
    CreateProductError: InvalidInput, IdempotencyKeyReused, SkuTaken;
    /// Why `changeProductDetails` did nothing.
    ChangeProductDetailsError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, ProductNotFound;
    /// Why `changeProductCategory` did nothing.
    ChangeProductCategoryError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, ProductNotFound;
    /// Why `changeProductPrice` did nothing.
    ChangeProductPriceError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, ProductNotFound,
        CurrencyCannotChange;
    /// Why `receiveStock` did nothing.
    ReceiveStockError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, ProductNotFound, StockTooLarge;
    /// Why `adjustStock` did nothing.
    AdjustStockError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, ProductNotFound,
        StockBelowReserved, StockTooLarge;
    /// Why `discontinueProduct` did nothing.
    DiscontinueProductError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, ProductNotFound;
    /// Why `relistProduct` did nothing.
    RelistProductError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, ProductNotFound;
}

impl Refuses for Aggregate {
    fn refusal(id: ProductId, error: &ProductError) -> Option<UserError> {
        let message = error.to_string();
        Some(match *error {
            ProductError::NotFound => product_not_found(id, INPUT.field("productId").path()),
            ProductError::Price(error) => {
                let problem = match error {
                    MoneyError::Negative => InputProblem::Negative,
                    _ => InputProblem::OutOfRange,
                };
                let path = INPUT.field("price").field("amountMinor").path();
                InvalidInput::new(message, path, problem, None, None).into()
            }
            ProductError::CurrencyCannotChange { current, .. } => {
                let path = INPUT.field("price").field("currency").path();
                CurrencyCannotChange::new(message, path, CurrencyCode(current)).into()
            }
            ProductError::WouldGoBelowReserved {
                on_hand,
                reserved,
                delta,
            } => {
                let path = INPUT.field("delta").path();
                StockBelowReserved::new(message, path, on_hand.into(), reserved.into(), delta).into()
            }
            ProductError::StockOutOfRange { on_hand } => {
                StockTooLarge::new(message, INPUT.path(), on_hand.into(), Count::from(MAX_ON_HAND)).into()
            }
            ProductError::AlreadyExists => return None,
        })
    }
}

/// There is no such product.
pub(crate) fn product_not_found(id: ProductId, path: Vec<String>) -> UserError {
    ProductNotFound::new("there is no such product", path, id.to_string().into()).into()
}

/// The answer to a mutation of a product: either it was done, or `userErrors` says why not.
#[derive(Debug, async_graphql::Description)]
pub(crate) struct ProductPayload<E>(Answer<ProductId, E>);

#[Object(
    use_type_description,
    concrete(name = "CreateProductPayload", params(CreateProductError)),
    concrete(name = "ChangeProductDetailsPayload", params(ChangeProductDetailsError)),
    concrete(name = "ChangeProductCategoryPayload", params(ChangeProductCategoryError)),
    concrete(name = "ChangeProductPricePayload", params(ChangeProductPriceError)),
    concrete(name = "ReceiveStockPayload", params(ReceiveStockError)),
    concrete(name = "AdjustStockPayload", params(AdjustStockError)),
    concrete(name = "DiscontinueProductPayload", params(DiscontinueProductError)),
    concrete(name = "RelistProductPayload", params(RelistProductError))
)]
impl<E: OutputType> ProductPayload<E> {
    /// The product, at least as new as `position`; null if the mutation was refused. Asking for it waits until the products
    /// have caught up, usually some milliseconds, and answers `CONSISTENCY_TIMEOUT` here if that takes too long: the mutation
    /// was done all the same.
    async fn product(&self, ctx: &Context<'_>) -> Result<Option<Product>> {
        let Some((id, position)) = self.0.written else {
            return Ok(None);
        };
        Ok(fresh(ctx, id, Some(Position(position))).await?.map(Product))
    }

    /// The product's id; null if the mutation was refused. Costs nothing.
    async fn product_id(&self) -> Option<ID> {
        self.0.written.map(|(id, _)| id.to_string().into())
    }

    /// Where the log stands behind this mutation: as `atLeast` of a query, it makes the answer include it. Null if the
    /// mutation was refused.
    async fn position(&self) -> Option<Position> {
        self.0.written.map(|(_, position)| Position(position))
    }

    /// Why nothing was done; empty if it was done.
    async fn user_errors(&self) -> &[E] {
        &self.0.errors
    }
}

impl<E> ProductPayload<E>
where
    E: TryFrom<UserError, Error = UserError>,
{
    fn of(ctx: &Context<'_>, attempt: Result<ProductOutcome, Refusal>) -> Result<Self> {
        Answer::of(ctx, attempt).map(Self)
    }
}

/// Mutations of products.
#[derive(Debug, Default)]
pub(crate) struct ProductMutations;

#[Object]
impl ProductMutations {
    /// Brings a product into the catalogue, for sale, with no stock. For staff. Needs `product:write`.
    async fn create_product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What the product is.")] input: CreateProductInput,
    ) -> Result<ProductPayload<CreateProductError>> {
        require(ctx, Permission::CatalogueWrite)?;
        ProductPayload::of(ctx, create_product(ctx, input).await)
    }

    /// Replaces a product's name and description. For staff. Orders placed before keep the name of then. Needs `product:write`.
    async fn change_product_details(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which product, and what it says from now on.")] input: ChangeProductDetailsInput,
    ) -> Result<ProductPayload<ChangeProductDetailsError>> {
        require(ctx, Permission::CatalogueWrite)?;
        ProductPayload::of(ctx, change_details(ctx, input).await)
    }

    /// Moves a product to another shelf. For staff. Needs `product:write`.
    async fn change_product_category(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which product, and where it stands from now on.")]
        input: ChangeProductCategoryInput,
    ) -> Result<ProductPayload<ChangeProductCategoryError>> {
        require(ctx, Permission::CatalogueWrite)?;
        ProductPayload::of(ctx, change_category(ctx, input).await)
    }

    /// Sets a product's price for orders placed from now on. For staff. Orders placed before keep the price of then.
    /// Needs `product:write`.
    async fn change_product_price(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which product, and what a piece costs from now on.")]
        input: ChangeProductPriceInput,
    ) -> Result<ProductPayload<ChangeProductPriceError>> {
        require(ctx, Permission::CatalogueWrite)?;
        ProductPayload::of(ctx, change_price(ctx, input).await)
    }

    /// Books goods in: that many more pieces are on hand. For staff. Each new idempotency key books them in once more.
    /// Needs `stock:write`.
    async fn receive_stock(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Of which product, and how many.")] input: ReceiveStockInput,
    ) -> Result<ProductPayload<ReceiveStockError>> {
        require(ctx, Permission::StockWrite)?;
        ProductPayload::of(ctx, receive_stock(ctx, input).await)
    }

    /// Sets the books right after a count, breakage or theft; never below what is reserved for orders. For staff.
    /// Needs `stock:write`.
    async fn adjust_stock(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Of which product, by how many pieces, and why.")] input: AdjustStockInput,
    ) -> Result<ProductPayload<AdjustStockError>> {
        require(ctx, Permission::StockWrite)?;
        ProductPayload::of(ctx, adjust_stock(ctx, input).await)
    }

    /// Takes a product off sale. For staff. What is reserved for orders stays reserved; stock and text can still change. Done
    /// to a product that is off sale already, it changes nothing. Needs `product:write`.
    async fn discontinue_product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which product, and why.")] input: DiscontinueProductInput,
    ) -> Result<ProductPayload<DiscontinueProductError>> {
        require(ctx, Permission::CatalogueWrite)?;
        ProductPayload::of(ctx, discontinue(ctx, input).await)
    }

    /// Puts a product on sale again. For staff. Done to a product that is on sale, it changes nothing. Needs `product:write`.
    async fn relist_product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which product.")] input: RelistProductInput,
    ) -> Result<ProductPayload<RelistProductError>> {
        require(ctx, Permission::CatalogueWrite)?;
        ProductPayload::of(ctx, relist(ctx, input).await)
    }
}

type Attempt = Result<ProductOutcome, Refusal>;

async fn create_product(ctx: &Context<'_>, input: CreateProductInput) -> Attempt {
    let mut check = Check::default();
    let context = check.context(ctx, "createProduct", &input, &input.idempotency_key);
    let sku: Option<Sku> = check.text(INPUT.field("sku"), &input.sku);
    let name: Option<ProductName> = check.text(INPUT.field("name"), &input.name);
    let description: Option<Description> = check.text(INPUT.field("description"), &input.description);
    let category: Option<Category> = check.text(INPUT.field("category"), &input.category);
    let price = check.amount(INPUT.field("price"), input.price);
    let (Some(context), Some(sku), Some(name), Some(description), Some(category), Some(price)) =
        (context, sku, name, description, category, price)
    else {
        return Err(check.refusal());
    };
    let command = ProductCommand::Create {
        sku,
        name,
        description,
        category,
        price,
    };
    let id = ProductId::from_ulid(app(ctx).store.ids().next());
    let key = input.idempotency_key;
    create(
        ctx,
        Ready {
            id,
            command,
            context,
            key,
        },
    )
    .await
}

/// What every edit begins with.
macro_rules! begin {
    ($ctx:ident, $mutation:literal, $input:ident) => {{
        let mut check = Check::default();
        let context = check.context($ctx, $mutation, &$input, &$input.idempotency_key);
        let id: Option<ProductId> = check.id(INPUT.field("productId"), &$input.product_id);
        let context: Option<CommandContext> =
            context.map(|context| context.expecting(expected($input.expected_version)));
        (check, id, context)
    }};
}

/// What every edit ends with: sends the command, or refuses.
async fn send(
    ctx: &Context<'_>,
    check: Check,
    id: Option<ProductId>,
    context: Option<CommandContext>,
    key: String,
    command: Option<ProductCommand>,
) -> Attempt {
    match (id, context, command) {
        (Some(id), Some(context), Some(command)) if !check.failed() => {
            let ready = Ready::<Aggregate> {
                id,
                command,
                context,
                key,
            };
            execute(ctx, ready).await
        }
        _ => Err(check.refusal()),
    }
}

async fn change_details(ctx: &Context<'_>, input: ChangeProductDetailsInput) -> Attempt {
    let (mut check, id, context) = begin!(ctx, "changeProductDetails", input);
    let name: Option<ProductName> = check.text(INPUT.field("name"), &input.name);
    let description: Option<Description> = check.text(INPUT.field("description"), &input.description);
    let command = name
        .zip(description)
        .map(|(name, description)| ProductCommand::ChangeDetails { name, description });
    send(ctx, check, id, context, input.idempotency_key, command).await
}

async fn change_category(ctx: &Context<'_>, input: ChangeProductCategoryInput) -> Attempt {
    let (mut check, id, context) = begin!(ctx, "changeProductCategory", input);
    let category: Option<Category> = check.text(INPUT.field("category"), &input.category);
    let command = category.map(|category| ProductCommand::ChangeCategory { category });
    send(ctx, check, id, context, input.idempotency_key, command).await
}

async fn change_price(ctx: &Context<'_>, input: ChangeProductPriceInput) -> Attempt {
    let (mut check, id, context) = begin!(ctx, "changeProductPrice", input);
    let price = check.amount(INPUT.field("price"), input.price);
    let command = price.map(|price| ProductCommand::ChangePrice { price });
    send(ctx, check, id, context, input.idempotency_key, command).await
}

async fn receive_stock(ctx: &Context<'_>, input: ReceiveStockInput) -> Attempt {
    let (mut check, id, context) = begin!(ctx, "receiveStock", input);
    let quantity = check.quantity(INPUT.field("quantity"), input.quantity);
    let reference: Option<Option<Reason>> =
        check.optional(INPUT.field("reference"), input.reference.as_deref());
    let command = quantity
        .zip(reference)
        .map(|(quantity, reference)| ProductCommand::ReceiveStock { quantity, reference });
    send(ctx, check, id, context, input.idempotency_key, command).await
}

async fn adjust_stock(ctx: &Context<'_>, input: AdjustStockInput) -> Attempt {
    let (mut check, id, context) = begin!(ctx, "adjustStock", input);
    let delta = NonZeroI32::new(input.delta);
    if delta.is_none() {
        let path = INPUT.field("delta").path();
        let message = "must not be 0";
        check.problem(InvalidInput::new(
            message,
            path,
            InputProblem::OutOfRange,
            None,
            None,
        ));
    }
    let reason: Option<Reason> = check.text(INPUT.field("reason"), &input.reason);
    let command = delta
        .zip(reason)
        .map(|(delta, reason)| ProductCommand::AdjustStock { delta, reason });
    send(ctx, check, id, context, input.idempotency_key, command).await
}

async fn discontinue(ctx: &Context<'_>, input: DiscontinueProductInput) -> Attempt {
    let (mut check, id, context) = begin!(ctx, "discontinueProduct", input);
    let reason: Option<Option<Reason>> = check.optional(INPUT.field("reason"), input.reason.as_deref());
    let command = reason.map(|reason| ProductCommand::Discontinue { reason });
    send(ctx, check, id, context, input.idempotency_key, command).await
}

async fn relist(ctx: &Context<'_>, input: RelistProductInput) -> Attempt {
    let (check, id, context) = begin!(ctx, "relistProduct", input);
    let command = Some(ProductCommand::Relist);
    send(ctx, check, id, context, input.idempotency_key, command).await
}
