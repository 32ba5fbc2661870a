// Enrols at an ACME server with lego's library: registers, obtains a certificate, asks for its renewal information,
// changes the account's key, revokes the certificate. Prints one JSON object of what it has seen.
//
// Arguments: the URL of the directory and the name. LEGO_CA_CERTIFICATES names the file with the authority of the
// server's own certificate.
package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-acme/lego/v5/acme"
	"github.com/go-acme/lego/v5/certcrypto"
	"github.com/go-acme/lego/v5/certificate"
	"github.com/go-acme/lego/v5/lego"
	"github.com/go-acme/lego/v5/registration"
)

// The longest time that all of it may take.
const timeout = 2 * time.Minute

type user struct {
	key     crypto.Signer
	account *acme.ExtendedAccount
}

func (u *user) GetEmail() string                       { return "lego@example.test" }
func (u *user) GetRegistration() *acme.ExtendedAccount { return u.account }
func (u *user) GetPrivateKey() crypto.Signer           { return u.key }

type seen struct {
	Account     string `json:"account"`
	Status      string `json:"status"`
	Certificate string `json:"certificate"`
	Window      bool   `json:"window"`
	Revoked     string `json:"revoked_again"`
}

func main() {
	if len(os.Args) != 3 {
		fail(errors.New("usage: lego-enroll DIRECTORY NAME"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	result, err := enroll(ctx, os.Args[1], os.Args[2])
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func enroll(ctx context.Context, directory, name string) (*seen, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	person := &user{key: key}
	config := lego.NewConfig(person)
	config.CADirURL = directory
	client, err := lego.NewClient(config)
	if err != nil {
		return nil, err
	}
	person.account, err = client.Registration.Register(ctx, registration.RegisterOptions{TermsOfServiceAgreed: true})
	if err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	request := certificate.ObtainRequest{Domains: []string{name}, KeyType: certcrypto.EC256, Bundle: true}
	issued, err := client.Certificate.Obtain(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("obtain: %w", err)
	}
	leaf, err := certcrypto.ParsePEMCertificate(issued.Certificate)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	window, err := client.Certificate.GetRenewalInfo(ctx, leaf)
	if err != nil {
		return nil, fmt.Errorf("renewal information: %w", err)
	}
	next, err := newKey()
	if err != nil {
		return nil, err
	}
	if err := client.Registration.KeyRollover(ctx, next); err != nil {
		return nil, fmt.Errorf("change of keys: %w", err)
	}
	account, err := client.Registration.QueryRegistration(ctx)
	if err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	if err := client.Certificate.Revoke(ctx, issued.Certificate); err != nil {
		return nil, fmt.Errorf("revoke: %w", err)
	}
	result := &seen{
		Account:     person.account.Location,
		Status:      account.Status,
		Certificate: string(issued.Certificate),
		Window:      window.SuggestedWindow.Start.Before(window.SuggestedWindow.End),
	}
	if err := client.Certificate.Revoke(ctx, issued.Certificate); err != nil {
		result.Revoked = err.Error()
	}
	return result, nil
}

func newKey() (crypto.Signer, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}
