import type { Column, FrontDoorService, SessionIdentity } from '../control/index.ts';
import type { Statement } from '../sql/index.ts';

/**
 * What sessions ask: the contract, in which the two synchronous questions may also be answered later, as they are in
 * another process. Every `FrontDoorService` is one.
 */
export interface SessionService extends Omit<FrontDoorService, 'describe' | 'screen'> {
  describe(
    statement: Statement,
    session: SessionIdentity,
  ): readonly Column[] | undefined | Promise<readonly Column[] | undefined>;
  screen?(options: { session: SessionIdentity; text: string }): void | Promise<void>;
}
