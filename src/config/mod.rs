//! The file as written → checked, resolved settings.

mod secret;
mod settings;

pub use secret::Secret;
pub use settings::*;
