//! Who is asked to show that an e-mail address is theirs, without having asked for it.

use std::collections::BTreeSet;

use kontor_domain::{UserEvent, UserId};
use kontor_eventstore::{Body, Recorded};

/// Whether somebody has an address from here on that nobody has proved. Another spelling of a proved one is proved by the event
/// behind this one: the sender looks at the account as it is by then.
pub(super) fn is_of_an_address(body: &Body) -> bool {
    matches!(
        body,
        Body::User(_, UserEvent::Registered { .. } | UserEvent::EmailChanged { .. })
    )
}

/// Whoever typed such an address themselves, each once: the mail goes to the address of the moment it is sent. Addresses that the
/// shop's own processes bring (an import, sample accounts) nobody typed.
pub(super) fn to_prove<'a>(events: impl IntoIterator<Item = &'a Recorded>) -> BTreeSet<UserId> {
    let typed = events.into_iter().filter(|event| {
        is_of_an_address(&event.body)
            && event
                .metadata()
                .is_ok_and(|metadata| metadata.backdated.is_none() && !metadata.actor.starts_with("system:"))
    });
    typed
        .filter_map(|event| match event.body {
            Body::User(id, _) => Some(id),
            _ => None,
        })
        .collect()
}
