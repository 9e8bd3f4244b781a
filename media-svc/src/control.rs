//! gRPC MediaControl: reserve, list, end, drain.
