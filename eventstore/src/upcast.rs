//! How events stored by older versions of Kontor become today's (L10).
//!
//! An event's stored form never changes once a shop has written it. When its type does, raise its
//! `event_version`, keep a golden file of the old form, and add the step here.

use cqrs_es::persist::{EventUpcaster, SerializedEvent};

/// Every step there is, oldest first. Handed to cqrs-es for loading, and used by the readers of the log.
pub(crate) fn steps() -> Vec<Box<dyn EventUpcaster>> {
    Vec::new()
}

static STEPS: std::sync::LazyLock<Vec<Box<dyn EventUpcaster>>> = std::sync::LazyLock::new(steps);

/// Whether some step changes events of this type and version.
pub(crate) fn applies(event_type: &str, version: &str) -> bool {
    STEPS.iter().any(|step| step.can_upcast(event_type, version))
}

/// Takes a stored event to today's form.
pub(crate) fn upcast(event: SerializedEvent) -> SerializedEvent {
    STEPS.iter().fold(event, |event, step| {
        if step.can_upcast(&event.event_type, &event.event_version) {
            step.upcast(event)
        } else {
            event
        }
    })
}
