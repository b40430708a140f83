export { openKmsKey, type KmsKey } from './kms-key.ts';
export {
  isKmsUri,
  KMS_SCHEMES,
  kmsDisplayUri,
  type KmsLocation,
  parseKmsUri,
  usesImplicitKmsRights,
  usesNodeKmsCredentials,
} from './kms-uri.ts';
