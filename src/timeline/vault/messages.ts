/** What the daemon and the vault's process tell each other over their private channel. */
import type { LogScope, Lsn, Severity, VirtualClusterId } from '../../base/index.ts';
import type { VaultSource, VaultStatus } from '../store-contract.ts';
import type { WireError } from '../worker/wire-error.ts';

export type ToVault =
  /** The first message. */
  | { readonly kind: 'open'; readonly lockPath: string }
  /** `id` names the answer; numbers are never used twice. */
  | { readonly kind: 'follow'; readonly id: number; readonly source: VaultSource }
  | { readonly kind: 'unfollow'; readonly id: number; readonly virtualClusterId: VirtualClusterId }
  /** Sync now rather than soon: somebody waits for `lsn`. Answered by a status. */
  | { readonly kind: 'hurry'; readonly virtualClusterId: VirtualClusterId; readonly lsn: Lsn }
  | { readonly kind: 'close' };

export type FromVault =
  /** The lock is held. */
  | { readonly kind: 'opened' }
  | { readonly kind: 'done'; readonly id: number }
  | { readonly kind: 'failed'; readonly id: number; readonly error: WireError }
  | { readonly kind: 'status'; readonly statuses: readonly VaultStatus[] }
  | {
      readonly kind: 'log';
      readonly severity: Severity;
      readonly message: string;
      readonly scope: LogScope | null;
    };
