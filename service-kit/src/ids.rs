//! Names of things.

/// A new session id: a UUID version 4 (unguessable; also the recording's file name).
pub fn session_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A media node's name when none is configured: `<host name>-<8 random hex digits>`.
pub fn node_id() -> String {
    let host = host_name().unwrap_or_else(|| "node".to_owned());
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{host}-{}", random.get(..8).unwrap_or(&random))
}

/// The name of this host: in a container its id, by which the container engine's DNS knows it.
pub fn host_name() -> Option<String> {
    std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_session_id_is_a_random_uuid() {
        let id = uuid::Uuid::parse_str(&super::session_id()).unwrap();
        assert_eq!(id.get_version_num(), 4);
        assert_ne!(super::session_id(), super::session_id());
    }

    #[test]
    fn two_nodes_on_one_host_have_different_names() {
        assert_ne!(super::node_id(), super::node_id());
    }
}
