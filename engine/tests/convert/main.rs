//! `ringdns convert`: the conversion of older Corefiles and of kube-dns's ConfigMaps, and whether
//! ringdns reads the result.

mod command;
mod config_maps;
mod conversion;
mod corefiles;
