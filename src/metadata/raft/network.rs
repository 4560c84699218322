//! The way to the other nodes of the quorum. There are none yet: a quorum of one never calls, and what would call is told that nobody
//! can be reached.

use super::Types;
use openraft::{
    BasicNode, RaftNetwork, RaftNetworkFactory,
    error::{InstallSnapshotError, RPCError, RaftError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
        VoteResponse,
    },
};
use std::io;

/// Makes connections to other nodes.
pub(super) struct Network;

/// A connection to one other node.
pub(super) struct Connection {
    target: i32,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: i32, _node: &BasicNode) -> Connection {
        Connection { target }
    }
}

impl Connection {
    fn unreachable<E: std::error::Error>(&self) -> RPCError<i32, BasicNode, RaftError<i32, E>> {
        let why = format!("node {} cannot be reached: this release runs clusters of one node", self.target);
        RPCError::Unreachable(Unreachable::new(&io::Error::new(io::ErrorKind::Unsupported, why)))
    }
}

impl RaftNetwork<Types> for Connection {
    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<i32>, RPCError<i32, BasicNode, RaftError<i32>>> {
        Err(self.unreachable())
    }

    async fn install_snapshot(
        &mut self,
        _rpc: InstallSnapshotRequest<Types>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<i32>, RPCError<i32, BasicNode, RaftError<i32, InstallSnapshotError>>> {
        Err(self.unreachable())
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<i32>,
        _option: RPCOption,
    ) -> Result<VoteResponse<i32>, RPCError<i32, BasicNode, RaftError<i32>>> {
        Err(self.unreachable())
    }
}
