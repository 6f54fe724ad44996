import './polyfill.ts';
import { type GossipsubOpts, type Message, StrictSign } from '@chainsafe/libp2p-gossipsub';
import { NET_LIMITS } from './limits.ts';

/** The whole configuration of gossipsub. Every line that departs from a default has its reason. */
export function gossipOptions(topic: string, idOf: (message: Message) => Uint8Array): Partial<GossipsubOpts> {
  return {
    globalSignaturePolicy: StrictSign,
    msgIdFn: idOf,
    // Without it a peer can subscribe to topics without end and fill our memory (CVE-2026-46679).
    allowedTopics: [topic],
    emitSelf: false,
    // Copies on the wire grow with D. Small messages go to everybody at once anyway, and what a thin mesh loses is
    // asked for after the lazy gossip to six others.
    D: 4,
    Dlo: 3,
    Dhi: 8,
    Dout: 1,
    Dscore: 2,
    // A mesh forms a heartbeat after the first connection; rounds may be a few seconds long.
    heartbeatInterval: 700, // ms
    floodPublish: false, // chosen for each message, by its size
    ignoreDuplicatePublishError: true,
    // A message nobody hears is an error and not marked as seen, so that it can be published again.
    allowPublishToZeroTopicPeers: false,
    fallbackToFloodsub: false, // floodsub has neither signatures checked by score nor bounds
    doPX: false, // members tell each other addresses in their hello
    maxInboundDataLength: NET_LIMITS.gossipFrameBytesMax,
    maxOutboundBufferSize: NET_LIMITS.gossipBacklogBytesMax,
    // A peer that trains answers late; three seconds would count as a broken promise.
    gossipsubIWantFollowupMs: 15_000,
    scoreParams: {
      // Peers in one house, one university or one test share an address; the default takes the whole mesh from the
      // eleventh of them.
      IPColocationFactorWeight: 0,
      topics: { [topic]: topicScore },
    },
  };
}

/** Only what is invalid counts: a control topic is silent most of the time, and silence is no fault. */
const topicScore = {
  topicWeight: 1,
  timeInMeshWeight: 0,
  timeInMeshQuantum: 1000,
  timeInMeshCap: 1,
  firstMessageDeliveriesWeight: 0,
  firstMessageDeliveriesDecay: 0.5,
  firstMessageDeliveriesCap: 1,
  meshMessageDeliveriesWeight: 0,
  meshMessageDeliveriesDecay: 0.5,
  meshMessageDeliveriesCap: 1,
  meshMessageDeliveriesThreshold: 1,
  meshMessageDeliveriesWindow: 10,
  meshMessageDeliveriesActivation: 1000,
  meshFailurePenaltyWeight: 0,
  meshFailurePenaltyDecay: 0.5,
  // Squared: with the third rejected message in quick succession a sender falls to -180, under the graylist threshold
  // of -80, and what it sends is not looked at for the next forty seconds.
  invalidMessageDeliveriesWeight: -20,
  invalidMessageDeliveriesDecay: 0.99, // each second
};
