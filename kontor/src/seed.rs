//! The sample catalogue and accounts of a first run.

use anyhow::{Result, bail};
use kontor_api::Passwords;
use kontor_domain::{
    ClaimKind, Email, Money, Personal, Product, ProductCommand, ProductId, Quantity, Role, User, UserCommand,
    UserId,
};
use kontor_eventstore::{Actor, CommandContext, IdempotencyKey};

use crate::runtime::Runtime;

/// The password of the three sample accounts.
pub const PASSWORD: &str = "kontor-sample";
/// E-mail addresses of the sample accounts, and the role each has beyond that of a customer.
pub const ACCOUNTS: [(&str, &str, Option<Role>); 3] = [
    ("customer@example.com", "Sample Customer", None),
    ("staff@example.com", "Sample Staff", Some(Role::Staff)),
    ("admin@example.com", "Sample Admin", Some(Role::Admin)),
];

/// SKU, name, description, category, price in pence, pieces.
const PRODUCTS: [(&str, &str, &str, &str, i64, u32); 12] = [
    (
        "INK-BLK-50",
        "Iron Gall Ink, black",
        "Permanent ink for ledgers, 50 ml.",
        "ink",
        1_250,
        400,
    ),
    (
        "INK-BLU-50",
        "Fountain Pen Ink, blue",
        "Washable ink, 50 ml.",
        "ink",
        890,
        250,
    ),
    (
        "INK-RED-30",
        "Correction Ink, red",
        "For what should not have happened, 30 ml.",
        "ink",
        950,
        80,
    ),
    (
        "PEN-GOOSE",
        "Goose Quill, cut",
        "A quill, cut and hardened.",
        "pens",
        480,
        120,
    ),
    (
        "PEN-STEEL",
        "Steel Pen with Holder",
        "A holder of pear wood and a pointed steel nib.",
        "pens",
        1_650,
        60,
    ),
    (
        "PEN-FOUNT",
        "Fountain Pen, brass",
        "Turned from brass, fine nib, holds 1.2 ml.",
        "pens",
        8_900,
        15,
    ),
    (
        "LED-A4-200",
        "Ledger, 200 pages",
        "Double entry, sewn, cloth over board, A4.",
        "books",
        3_200,
        90,
    ),
    (
        "LED-A5-120",
        "Journal, 120 pages",
        "Ruled, sewn, A5.",
        "books",
        1_800,
        140,
    ),
    (
        "SAND-250",
        "Blotting Sand",
        "Fine quartz, 250 g.",
        "desk",
        620,
        200,
    ),
    (
        "SEAL-WAX-5",
        "Sealing Wax, 5 sticks",
        "Dark red, for letters and cellars.",
        "desk",
        1_100,
        75,
    ),
    (
        "SCALE-BRS",
        "Coin Scale, brass",
        "With weights from half a gram to fifty.",
        "desk",
        14_500,
        5,
    ),
    (
        "MAP-1375",
        "Sea Chart, 1375",
        "Print of a Catalan chart, 60 by 90 cm.",
        "maps",
        4_500,
        1,
    ),
];

/// Puts the samples into the shop. Run again it changes nothing, also after half a run.
///
/// # Errors
/// When the log cannot be written.
pub async fn seed(runtime: &Runtime, passwords: &Passwords) -> Result<()> {
    for (email, name, role) in ACCOUNTS {
        let email = Email::new(email)?;
        if runtime
            .store
            .holder(ClaimKind::Email, &email.folded())
            .await?
            .is_none()
        {
            account(runtime, passwords, email, name, role).await?;
        }
    }
    for (sku, name, description, category, price, pieces) in PRODUCTS {
        let id = ProductId::from_ulid(runtime.store.ids().next());
        let create = ProductCommand::Create {
            sku: sku.parse()?,
            name: name.parse()?,
            description: description.parse()?,
            category: category.parse()?,
            price: Money::new(price, "GBP".parse()?)?,
        };
        let created = runtime
            .store
            .create::<Product>(id, create, context(runtime, &format!("create/{sku}")))
            .await?;
        let receive = ProductCommand::ReceiveStock {
            quantity: Quantity::new(pieces)?,
            reference: None,
        };
        runtime
            .store
            .execute::<Product>(created.id, receive, context(runtime, &format!("receive/{sku}")))
            .await?;
    }
    Ok(())
}

/// Fails while a sample account can still be logged in to by its well-known password.
///
/// # Errors
/// A sentence that names the account; or when the log cannot be read.
pub async fn must_be_gone(runtime: &Runtime, passwords: &Passwords) -> Result<()> {
    for (email, ..) in ACCOUNTS {
        let folded = Email::new(email)?.folded();
        let Some(holder) = runtime.store.holder(ClaimKind::Email, &folded).await? else {
            continue;
        };
        let open = runtime
            .store
            .inspect::<User, _>(holder.parse()?, |user, _| {
                user.is_active().then(|| user.password_hash().cloned()).flatten()
            })
            .await?;
        if open.is_some() && passwords.verify(open.as_ref(), PASSWORD.to_owned()).await {
            bail!(
                "this is not fit for production: the sample account {email} is open, with a well-known password; \
                 change it or deactivate the account"
            );
        }
    }
    Ok(())
}

async fn account(
    runtime: &Runtime,
    passwords: &Passwords,
    email: Email,
    name: &str,
    role: Option<Role>,
) -> Result<()> {
    let id = UserId::from_ulid(runtime.store.ids().next());
    let step = email.folded();
    let register = UserCommand::Register {
        email: Personal::new(email),
        name: Personal::new(name.parse()?),
        phone: None,
        password_hash: Some(passwords.hash(PASSWORD.to_owned()).await?.into()),
    };
    let registered = runtime
        .store
        .create::<User>(id, register, context(runtime, &format!("register/{step}")))
        .await?;
    if let Some(role) = role {
        let grant = UserCommand::GrantRole { role };
        runtime
            .store
            .execute::<User>(registered.id, grant, context(runtime, &format!("grant/{step}")))
            .await?;
    }
    Ok(())
}

fn context(runtime: &Runtime, step: &str) -> CommandContext {
    let key = IdempotencyKey::derived("seed", "sample", step);
    CommandContext::new(key.key.clone(), Actor::System("seed"), runtime.clock.now()).once(key)
}
