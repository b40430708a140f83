/** What the daemon and the process that publishes tell each other over their private channel. */
import type { LogScope, Severity, VirtualClusterId } from '../../base/index.ts';
import type { VaultStatus } from '../store-contract.ts';
import type { ContinuousStatus, ContinuousTarget } from './contract.ts';

export type ToPublishing =
  | { readonly kind: 'publish'; readonly target: ContinuousTarget }
  | { readonly kind: 'stop'; readonly virtualClusterId: VirtualClusterId }
  | { readonly kind: 'vault'; readonly statuses: readonly VaultStatus[] }
  | { readonly kind: 'close' };

export type FromPublishing =
  | { readonly kind: 'status'; readonly statuses: readonly ContinuousStatus[] }
  | {
      readonly kind: 'log';
      readonly severity: Severity;
      readonly message: string;
      readonly scope: LogScope;
    };
