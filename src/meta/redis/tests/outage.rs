//! Connections that break, servers that stop: nothing is lost and nothing is done twice.
