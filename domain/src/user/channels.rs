//! How a customer wants to be told what happens to them.

use serde::{Deserialize, Serialize};

/// The ways on which a customer is told things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Channels {
    /// By e-mail.
    pub email: bool,
    /// By SMS; nothing is sent while the account has no phone number.
    pub sms: bool,
}

impl Default for Channels {
    /// Who never chose gets e-mail: it costs nobody anything.
    fn default() -> Self {
        Self {
            email: true,
            sms: false,
        }
    }
}
