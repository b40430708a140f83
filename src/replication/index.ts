export { Consumer } from './consumer.ts';
export type { ConsumerContext, ConsumerDependencies } from './consumer-contract.ts';
export { inspectPlainServer, notDrainable, type PlainStream, reserveLog } from './plain-server.ts';
export { readServerFacts, type ServerFacts } from './server-facts.ts';
export { displaySourceUri, notSystem, parseSourceUri, type SourceAddress } from './source-address.ts';
export { SourceConnection, type StreamSource } from './source-connection.ts';
export { openSource } from './open-source.ts';
export { commonHistory } from './common-history.ts';
export { requireCompatible } from './compatible.ts';
export { type FollowerSample, sampleFollower } from './follower-sample.ts';
export * from './source-drain.ts';
export type { StreamFigures } from './stream-figures.ts';
export { StreamCatalog } from './stream-catalog.ts';
export type { Divergence, StreamLimits, StreamRecord } from './stream-record.ts';
export * from './stream-state.ts';
export {
  type DrainAnswer,
  type StreamAnswer,
  type StreamLife,
  type StreamReport,
  streamReportSchema,
  type StreamTerms,
} from './stream-terms.ts';
export { printStreamAnswer, printStreamTerms } from './stream-record.ts';
