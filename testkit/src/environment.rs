//! Variables that a service of a test is started with.

use crate::process::Spec;
use crate::service::Role;

/// The services that a variable is for.
#[derive(Debug, Clone)]
pub(crate) enum Whose {
    Everybody,
    Role(Role),
    One(String),
}

impl Whose {
    pub(crate) fn includes(&self, role: Role, name: &str) -> bool {
        match self {
            Self::Everybody => true,
            Self::Role(only) => *only == role,
            Self::One(only) => only == name,
        }
    }
}

/// Keeps a developer's own settings from a `voxray` process; with `inherit`, only listeners and stores.
pub fn hide_settings(mut spec: Spec, inherit: bool) -> Spec {
    for (key, _) in std::env::vars_os() {
        if is_setting(&key.to_string_lossy(), inherit) {
            spec = spec.env_remove(key);
        }
    }
    spec
}

/// Whether a variable of this process is kept from the services: listeners and stores always come from the stack, and
/// unless asked for, so does every other setting but where the speech models are.
fn is_setting(key: &str, inherit: bool) -> bool {
    let always =
        matches!(key, "HOST" | "PORT" | "VOXRAY_CONFIG" | "VOXRAY_BIN" | "VOXRAY_TOOLS") || key.starts_with("AWS_");
    let setting = (key.starts_with("VOXRAY_") && key != "VOXRAY_MODELS") || key.ends_with("_API_KEY");
    always || (setting && !inherit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_developers_own_settings_do_not_reach_the_services_of_a_test() {
        for key in [
            "VOXRAY_PROVIDER",
            "VOXRAY_CONFIG",
            "OPENAI_API_KEY",
            "AWS_PROFILE",
            "PORT",
        ] {
            assert!(is_setting(key, false), "{key}");
        }
        for key in ["PATH", "HOME", "VOXRAY_MODELS"] {
            assert!(!is_setting(key, false), "{key}");
        }
    }

    #[test]
    fn a_demonstration_passes_provider_keys_on_but_not_addresses() {
        for key in ["VOXRAY_PROVIDER", "OPENAI_API_KEY"] {
            assert!(!is_setting(key, true), "{key}");
        }
        for key in ["VOXRAY_CONFIG", "AWS_PROFILE", "HOST"] {
            assert!(is_setting(key, true), "{key}");
        }
    }
}
