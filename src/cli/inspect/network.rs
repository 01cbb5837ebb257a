//! Docker's `NetworkSettings`, of a container that has the host's network or none.

use serde_json::{Value, json};

use super::merged;
use crate::runtime::Network;

pub(super) fn settings(network: Option<Network>) -> Value {
    let name = match network.unwrap_or(Network::None) {
        Network::Host => "host",
        Network::None => "none",
    };
    let endpoint = merged([
        json!({ "IPAMConfig": null, "Links": null, "Aliases": null, "NetworkID": "", "DriverOpts": null }),
        addresses(),
    ]);
    let sandbox = json!({
        "Bridge": "",
        "SandboxID": "",
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": {},
        "SandboxKey": "",
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "Networks": { name: endpoint },
    });
    merged([sandbox, addresses()]).into()
}

fn addresses() -> Value {
    json!({
        "EndpointID": "", "Gateway": "", "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0, "MacAddress": "",
    })
}
