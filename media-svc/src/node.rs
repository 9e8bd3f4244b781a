//! Registration of this node, heartbeat and drain.
